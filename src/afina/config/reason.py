"""A choice that was made for the user, and why: printed when a run starts, and stored with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Reason:
    """The value that a setting got, and the reason in words."""

    setting: str
    value: Any
    reason: str
    otherwise: tuple[str, ...] = ()
    """What would have led to another value: what, and to which one."""

    def is_same_choice(self, other: Reason) -> bool:
        """Whether the same setting got the same value, as JSON tells values apart."""
        return self.setting == other.setting and json.dumps(self.value) == json.dumps(other.value)

    def __str__(self) -> str:
        return f"{self.setting} = {self.value}: {self.reason}"
