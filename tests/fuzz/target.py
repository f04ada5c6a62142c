"""What a target of the fuzzing is, and when an input has done no harm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from afina.errors import AfinaError


@dataclass(frozen=True)
class Target:
    """One reader."""

    name: str
    make_seeds: Callable[[Path], Sequence[bytes]]
    """Good inputs, made in an empty folder."""
    read: Callable[[bytes, Path], None]
    """Reads one input in a folder of its own."""


def is_refusal(error: BaseException) -> bool:
    """Whether an input was refused as it should be, with words on what is wrong with it."""
    return isinstance(error, AfinaError) and bool(str(error).strip())
