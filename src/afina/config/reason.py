"""A choice that was made for the user, and why: printed when a run starts, and stored with it."""

from __future__ import annotations

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

    def __str__(self) -> str:
        return f"{self.setting} = {self.value}: {self.reason}"
