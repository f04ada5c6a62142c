"""Reasons of a run on disk as they come, so that one that is resumed still knows why its settings are what they are.

A line for each; one that was cut off by a kill, or that the disk had no room for, is forgotten: no run stops for that.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from afina.config.reason import Reason


class ReasonsFile:
    """The reasons so far.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Reason]:
        """Those that are whole, in their order."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        return [reason for reason in map(parse_reason, lines) if reason]

    def add(self, reason: Reason) -> None:
        """Keep one more. It begins a line of its own, so that what a kill cut off spoils nothing that follows."""
        with contextlib.suppress(OSError), self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(asdict(reason)))


def parse_reason(line: str) -> Reason | None:
    """The reason of a line; None if it isn't whole."""
    try:
        stored: Any = json.loads(line)
        return Reason(**{**stored, "otherwise": tuple(stored["otherwise"])})
    except (ValueError, TypeError, KeyError):
        return None
