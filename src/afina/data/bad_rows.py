"""What a reader finds wrong with rows, gathered by kind so that all of it is said at once.

At most `ROWS_KEPT` row numbers of a kind are kept; the count stays exact, so a file in which every row is bad
costs no more memory than a good one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

from afina.errors import Problem

ROWS_KEPT = 10_000
DROP = "--set data.on_bad_rows=drop"
OR_DROP = f", or leave them out with {DROP}"
MEND = f"mend these rows{OR_DROP}"


def forbid_dropping(problems: Iterable[Problem]) -> list[Problem]:
    """The problems without the advice to leave the rows out, where that is no way."""
    return [replace(problem, remedy=problem.remedy.removesuffix(OR_DROP)) for problem in problems]


class RowNumbers(Sequence[int]):
    """Numbers of rows in rising order: the first `ROWS_KEPT` of them, while `len` counts all."""

    def __init__(self, kept: Sequence[int] = (), total: int | None = None) -> None:
        self.kept = list(kept[:ROWS_KEPT])
        self.total = len(kept) if total is None else total

    def add(self, row: int) -> None:
        if self.total < ROWS_KEPT:
            self.kept.append(row)
        self.total += 1

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        return self.kept[index]

    def __len__(self) -> int:
        return self.total

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and self.kept == list(other[: len(self.kept)])

    def __hash__(self) -> int:
        return hash((self.total, tuple(self.kept)))

    def __repr__(self) -> str:
        return f"RowNumbers({self.kept[:10]}, total={self.total})"


def leave_out(rows: RowNumbers, told: Iterable[Problem]) -> RowNumbers:
    """The rows that none of some problems lists."""
    listed = {row for problem in told for row in problem.rows[:]}
    kept = [row for row in rows.kept if row not in listed]
    return RowNumbers(kept, len(rows) - (len(rows.kept) - len(kept)))


@dataclass(frozen=True, slots=True)
class Fault:
    """The words for one kind of bad row."""

    what: str
    expected: str
    remedy: str = MEND


FAULTS = {
    "bytes": Fault("rows with bytes that are not UTF-8", "text in UTF-8"),
    "nul": Fault("rows with NUL characters", "text without NUL characters"),
    "surrogate": Fault("rows with half of a surrogate pair", "escapes such as \\ud83d\\ude00, in pairs"),
    "long": Fault("rows with a text of more than 5 million characters", "shorter texts: split a long one into rows"),
    "ragged": Fault("rows whose number of fields differs from the header's", "one field for each column"),
    "tagged line": Fault("rows with a line that isn't a word and its tag", "as many fields as the first line has"),
    "quote": Fault(
        "rows with a stray quote",
        "quotes around the whole field, and each quote inside it written twice",
    ),
    "json": Fault("rows that are not valid JSON", "one JSON object a row"),
    "object": Fault("rows that are not JSON objects", 'an object such as {"text": "...", "label": "..."}'),
    "infinite": Fault("rows with a number that is not finite", "a finite number, or a gap (null in JSON)"),
    "duplicate": Fault("rows in which a key stands twice", "each key once"),
    "deep": Fault("rows that are nested too deeply to be read", "an object of plain values"),
    "number": Fault("rows with a number of too many digits", "numbers of at most 4,300 digits"),
    "mapping": Fault(
        "rows that are not mappings",
        'a mapping such as {"text": "...", "label": "..."}',
        '[{"text": text, "label": label} for text, label in zip(texts, labels)], or [{"text": text} for text in texts]'
        " where there are no labels; run.predict takes texts alone",
    ),
    "key": Fault("rows with a column whose name is not a str", "names of columns as str"),
    "type": Fault("rows with a value that can't be stored", "str, int, float, bool, None, or lists and dicts of these"),
}


@dataclass(slots=True)
class BadRows:
    """Bad rows of one source by kind of fault, and notes on what was done without asking."""

    source: str
    notes: list[str] = field(default_factory=list)
    rows: dict[str, RowNumbers] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    cells: dict[tuple[str, str], RowNumbers] = field(default_factory=dict)
    """Rows with a cell that can't be stored, by column and kind of fault; they are kept, with a gap there."""
    remedies: dict[str, str] = field(default_factory=dict)
    revision: str = ""
    """The commit of the source, where it has one."""

    def add(self, code: str, row: int, found: str = "") -> None:
        """Count a bad row; `found` of the first row of a kind is the one that is shown."""
        if code not in self.rows:
            self.rows[code] = RowNumbers()
            self.found[code] = found
        self.rows[code].add(row)

    def add_cell(self, column: str, code: str, row: int) -> None:
        """Count a bad cell: what is wrong with it matters only to whoever needs the column."""
        self.cells.setdefault((column, code), RowNumbers()).add(row)

    def cell_problems(self) -> dict[str, tuple[Problem, ...]]:
        """What is wrong with the cells of each column."""
        found: dict[str, tuple[Problem, ...]] = {}
        for (column, code), rows in self.cells.items():
            fault = FAULTS[code]
            problem = Problem(f"{self.source}: {fault.what} in {column!r}", "", fault.expected, fault.remedy, rows)
            found[column] = (*found.get(column, ()), problem)
        return found

    def describe(self, code: str, found: str, remedy: str = "") -> None:
        """Replace what is shown for a kind, once more is known about it."""
        self.found[code] = found
        if remedy:
            self.remedies[code] = remedy

    def problems(self) -> tuple[Problem, ...]:
        return tuple(
            Problem(
                f"{self.source}: {FAULTS[code].what}",
                self.found[code],
                FAULTS[code].expected,
                self.remedies.get(code, FAULTS[code].remedy),
                RowNumbers(sorted(rows.kept), len(rows)),
            )
            for code, rows in self.rows.items()
        )
