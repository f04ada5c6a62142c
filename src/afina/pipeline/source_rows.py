"""The rows that a finished run is used on: opened, refused where they can't be read, and taken a few at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from afina.data.bad_rows import OR_DROP, forbid_dropping
from afina.data.read import choose_part, read_parts
from afina.data.rows import RowTable
from afina.errors import DataError, Problem, describe_rows
from afina.pipeline.narrator import Narrator

ROWS_AT_ONCE = 4096


@dataclass
class open_rows:  # noqa: N801  a context manager, used like a function
    """The rows of a source on disk while they are in use; a folder means its test part.

    Attributes:
        others: the parts that the source brings beside this one.
    """

    source: Any

    def __enter__(self) -> open_rows:
        self.work = tempfile.TemporaryDirectory(prefix="afina-")
        try:
            parts = read_parts(self.source, Path(self.work.name), trains=False)
            self.part = choose_part(parts)
            self.table = parts.pop(self.part)
            self.others = list(parts)
        except BaseException:
            self.work.cleanup()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.work.cleanup()


def mind_parts(rows: open_rows, narrator: Narrator) -> None:
    """Refuse several parts in memory, of which only one would come out; say which part of a folder does, and what was
    done to its rows when they were read.

    Raises:
        DataError: naming the parts.
    """
    if rows.others and isinstance(rows.source, Mapping):
        raise DataError(
            "the rows to predict are in several parts", found=", ".join([rows.part, *rows.others]),
            expected="one table, all of whose rows come out", remedy=f"name one of them, such as data[{rows.part!r}]",
        )  # fmt: skip
    for note in rows.table.notes:
        narrator.note(note)
    if rows.others:
        narrator.say(f"of {rows.source} the {rows.part} part is predicted; {', '.join(rows.others)} isn't")


def iterate_chunks(table: RowTable) -> Iterator[dict[str, list[Any]]]:
    """All columns of the table, `ROWS_AT_ONCE` rows at a time."""
    names = list(table.names)
    for start in range(0, table.row_count, ROWS_AT_ONCE):
        yield table.take(np.arange(start, min(start + ROWS_AT_ONCE, table.row_count)), names)


def refuse_problems(problems: Iterable[Problem]) -> None:
    """Raise them all at once, if there are any. Rows that are predicted can't be dropped: all come out."""
    found = forbid_dropping(problems)
    if found:
        raise DataError(problems=found)


def leave_out(problems: Sequence[Problem], on_bad_rows: str) -> list[str]:
    """A note on each kind of row that isn't scored; where these may not be left out, all problems are raised at once.

    Args:
        on_bad_rows: `fail` or `drop`.
    """
    if on_bad_rows != "drop":
        refuse_problems(
            replace(each, remedy=f"{each.remedy.removesuffix(OR_DROP)}, or --on-bad-rows drop to score the others")
            for each in problems
        )
    return [f"left out: {each.what} ({describe_rows(each.rows)})" for each in problems]
