"""One thing that the doctor found: how bad it is, what it means, what to do, and which rows it concerns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from afina.data.bad_rows import RowNumbers
from afina.data.doctor.personal_forms import hide_personal
from afina.errors import ROWS_SHOWN

Severity = Literal["error", "warning", "hint"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "hint")
WORTHLESS_SHARE = 0.2
"""Share of a part's rows from which on a fault makes its figures, or what is learned of it, worth nothing."""
EXAMPLES_SHOWN = 3
CHARACTERS_SHOWN = 160
LONGEST_HIDDEN = 100
WHOLE = "all"
"""The name of the only part, where the data is one table."""


@dataclass(frozen=True, slots=True)
class Example:
    """A row as people see it."""

    part: str
    row: int
    text: str

    def __str__(self) -> str:
        return f"{name_row(self.part, self.row)}: {self.text}"


@dataclass(frozen=True)
class Finding:
    """One kind of trouble in the data."""

    code: str
    """Never changes once published, so that scripts can ask for it."""
    severity: Severity
    """`error` makes a run worthless or impossible, `warning` costs quality, `hint` is worth a look."""
    title: str
    """What was found, with its numbers."""
    meaning: str
    """Why it matters."""
    remedy: str
    """What to do about it."""
    count: int
    """Rows concerned; classes or columns where it isn't rows."""
    rows: Mapping[str, RowNumbers] = field(default_factory=dict)
    """Numbers of the rows by part: the first ones, while `len` counts all."""
    examples: tuple[Example, ...] = ()

    def repeats(self, other: Finding) -> bool:
        """Whether both say the same of the same rows, be it in other words."""
        return bool(self.rows) and (self.code, self.rows) == (other.code, other.rows)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON takes it; the row numbers that were kept, and how many there are."""
        return {
            "code": self.code,
            "severity": self.severity,
            "title": self.title,
            "meaning": self.meaning,
            "remedy": self.remedy,
            "count": self.count,
            "rows": {part: list(numbers.kept) for part, numbers in self.rows.items()},
            "row_counts": {part: len(numbers) for part, numbers in self.rows.items()},
            "examples": [{"part": each.part, "row": each.row, "text": each.text} for each in self.examples],
        }

    def list_rows(self) -> str:
        """`rows 4, 9`, or `test rows 4, 9, ... (312); validation row 3`; empty where no rows are concerned."""
        listed = []
        for part, numbers in self.rows.items():
            shown = ", ".join(f"{row:,}" for row in list(numbers.kept)[:ROWS_SHOWN])
            more = f", ... ({len(numbers):,})" if len(numbers) > ROWS_SHOWN else ""
            where = "" if part == WHOLE else f"{part} "
            listed.append(f"{where}row{'' if len(numbers) == 1 else 's'} {shown}{more}")
        return "; ".join(listed)

    def as_note(self) -> str:
        """The finding in one line, for a run that goes on."""
        rows = self.list_rows()
        return f"{self.severity} {self.code}: {self.title}{f' ({rows})' if rows else ''}"


def name_row(part: str, row: int) -> str:
    """`row 4`, or `test row 4`."""
    return f"row {row:,}" if part == WHOLE else f"{part} row {row:,}"


def name_part(part: str) -> str:
    """`the data`, or `the test part`."""
    return "the data" if part == WHOLE else f"the {part} part"


def show_share(share: float) -> str:
    """`12.5%`, or `<0.1%` for what isn't nothing."""
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def shorten(text: str, around: int = 0) -> str:
    """The text on one line; where it is long, what stands around a place in it. What nobody sees is spelled out, and
    what may be about somebody is hidden, be it cut by the end of what is shown."""
    start = max(0, around - CHARACTERS_SHOWN // 2)
    before = max(0, start - LONGEST_HIDDEN)
    window = hide_personal(text[before : start + CHARACTERS_SHOWN + LONGEST_HIDDEN])
    piece = window[start - before : start - before + CHARACTERS_SHOWN]
    line = " ".join(piece.split())
    shown = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line)
    return ("…" if start else "") + shown + ("…" if len(text) > start + CHARACTERS_SHOWN else "")
