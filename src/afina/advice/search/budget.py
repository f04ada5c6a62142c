"""How long a search may take, and how long its next trial will.

Durations are learned: a trial costs what is the same for all (loading, scores, saving) and seconds for each row that
passes through training.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean

from afina.errors import ConfigError

UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
PATTERN = re.compile(r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?")
# A technique that hasn't been tried yet may take this many times as long as the slowest one that has.
CAUTION = 2.0


def parse_budget(text: object) -> float:
    """Seconds of `20m`, `1h30m` or `90s`.

    Raises:
        ConfigError: for anything else, and for nothing at all.
    """
    if not isinstance(text, str):
        is_number = isinstance(text, int | float) and not isinstance(text, bool) and text > 0
        raise make_budget_error(repr(text), f'budget="{text}m"' if is_number else 'budget="20m"', is_number)
    found = PATTERN.fullmatch(text.strip().lower())
    seconds = sum(float(value) * UNITS[unit] for unit, value in found.groupdict("0").items()) if found else 0.0
    if seconds > 0:
        return seconds
    is_number = re.fullmatch(r"\d+(\.\d+)?", text.strip()) is not None and float(text) > 0
    raise make_budget_error(repr(text), f"--budget {text.strip()}m" if is_number else "--budget 20m", is_number)


def make_budget_error(found: str, remedy: str, is_number: bool) -> ConfigError:
    """The error for a bare number, or for what is no time at all."""
    return ConfigError(
        "a budget needs a unit" if is_number else "the budget is not a time",
        found=found, expected="hours, minutes and seconds, such as 20m, 1h30m or 90s", remedy=remedy,
    )  # fmt: skip


def describe_seconds(seconds: float) -> str:
    """`1h05m`, `7m12s`, `45 s` or `0.8 s`."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{left:02d}s" if minutes else f"{left} s"


class Budget:
    """A time that runs out.

    Args:
        seconds: how long in all.
        used_seconds: how much of it was used before (resumed searches).
        clock: seconds that only grow.
    """

    def __init__(self, seconds: float, used_seconds: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._used_before = used_seconds
        self._clock = clock
        self._began = clock()

    @property
    def used_seconds(self) -> float:
        """Since the search began, without the time between a stop and its resumption."""
        return self._used_before + self._clock() - self._began

    @property
    def left_seconds(self) -> float:
        """Negative once it is overdrawn."""
        return self.seconds - self.used_seconds


@dataclass
class TrialDurations:
    """What trials took, by technique."""

    fixed_seconds: dict[str, list[float]] = field(default_factory=dict)
    """Of each trial, all but its training."""
    row_seconds: dict[str, list[float]] = field(default_factory=dict)
    """Of each trial, its training by planned row: what early stopping saves is in it."""

    def record(self, technique: str, seconds: float, train_seconds: float, planned_rows: int) -> None:
        """Learn from a trial; `planned_rows` are training rows times epochs, 0 where no steps are taken."""
        self.fixed_seconds.setdefault(technique, []).append(max(0.0, seconds - train_seconds))
        if planned_rows:
            self.record_rate(technique, train_seconds / planned_rows)

    def record_rate(self, technique: str, row_seconds: float) -> None:
        """Learn from the first steps of a trial that wasn't gone on with."""
        self.row_seconds.setdefault(technique, []).append(row_seconds)

    def expect(self, technique: str, planned_rows: int) -> float:
        """Seconds that a trial will take; 0 while nothing is known."""
        fixed = self._expect_of(self.fixed_seconds, technique)
        return fixed + (self._expect_of(self.row_seconds, technique) * planned_rows if planned_rows else 0.0)

    def _expect_of(self, known: dict[str, list[float]], technique: str) -> float:
        if technique in known:
            return fmean(known[technique])
        return CAUTION * max((fmean(each) for each in known.values()), default=0.0)
