"""Several files that are one table: their rows one after the other, numbered through; and files that aren't read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from afina.data.bad_rows import BadRows, RowNumbers
from afina.data.spool import Source

FILES_SHOWN = 5


class Shards:
    """The files of one table, in their order, each with a reader of its own."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        first, *others = self.sources
        self.name = f"{first.name} and {len(others)} more"
        self.surrogate_fault, self.refuses_nul = first.surrogate_fault, first.refuses_nul
        self.faulty: list[tuple[Source, BadRows]] = []

    def rows(self, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        self.faulty, firsts, before = [], [], 0
        for source in self.sources:
            firsts.append(f"{source.name} from row {before + 1:,}")
            inner, read = BadRows(source.name), 0
            try:
                for row, values in source.rows(inner):
                    read += 1
                    yield before + row, values
            finally:
                self.faulty.append((source, inner))
                take_over(bad_rows, inner, before)
            before += read + sum(map(len, inner.rows.values()))
        more = f", and {len(firsts) - FILES_SHOWN:,} more" if len(firsts) > FILES_SHOWN else ""
        bad_rows.notes.append(
            f"rows are numbered through {len(firsts):,} files: {', '.join(firsts[:FILES_SHOWN])}{more}"
        )

    def explain(self, bad_rows: BadRows) -> None:
        """What each file tells of its own faults; the first file with a kind of fault is the one that is shown."""
        told: set[str] = set()
        for source, inner in self.faulty:
            if inner.rows:
                source.explain(inner)
            for code in inner.rows.keys() - told:
                where = f"{source.name}, its row {inner.rows[code][0]:,}"
                bad_rows.describe(code, f"{where}: {inner.found[code]}", inner.remedies.get(code, ""))
                told.add(code)


class Noted:
    """A source, and a word on what lies beside it."""

    def __init__(self, source: Source, note: str) -> None:
        self.source, self.note = source, note
        self.name, self.surrogate_fault, self.refuses_nul = source.name, source.surrogate_fault, source.refuses_nul

    def rows(self, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        yield from self.source.rows(bad_rows)
        bad_rows.notes.append(self.note)

    def explain(self, bad_rows: BadRows) -> None:
        self.source.explain(bad_rows)


def take_over(bad_rows: BadRows, inner: BadRows, before: int) -> None:
    """Add what was found in one file, with its rows numbered through."""
    bad_rows.notes += inner.notes
    for code, rows in inner.rows.items():
        known = bad_rows.rows.get(code, RowNumbers())
        bad_rows.found.setdefault(code, inner.found[code])
        bad_rows.rows[code] = RowNumbers(
            [*known.kept, *(before + row for row in rows.kept)], len(known) + len(rows)
        )  # fmt: skip
