"""Whether the first line of a csv file may be a row, which was taken for the names of the columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from afina.data.column_names import LABEL_TIERS, PAIRS, TEXT_TIERS, normalize_name
from afina.data.column_profile import sample_columns
from afina.data.label_values import parse_number
from afina.data.rows import RowTable
from afina.errors import DataError

DELIMITED = (".csv", ".tsv")
LEAST_WORDS = 5
"""Words of a name from which on it is more like a text."""
SIGNS_SHOWN, CHARACTERS_SHOWN = 3, 40
OTHER_NAMES = [
    "id",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "answer",
    "response",
    "messages",
    "conversations",
]
USUAL = {name for names in (*TEXT_TIERS, *LABEL_TIERS, *PAIRS, OTHER_NAMES) for name in names}
WRITE_NAMES = "write the names of the columns into a line before it, such as text,label"


def find_row_signs(table: RowTable) -> str:
    """What speaks for a first line that is a row; empty where nothing does, or where some name is a usual one."""
    has_header = Path(table.source).suffix.lower() in DELIMITED
    if not has_header or any(normalize_name(name) in USUAL for name in table.names):
        return ""
    return "; ".join(list(_list_signs(table))[:SIGNS_SHOWN])


def _list_signs(table: RowTable) -> Iterator[str]:
    """One sign for each name that is more like a value."""
    columns = sample_columns(table)
    for place, name in enumerate(table.names):
        shown = repr(name if len(name) <= CHARACTERS_SHOWN else f"{name[:CHARACTERS_SHOWN]}…")
        number = parse_number(name)
        if len(name.split()) >= LEAST_WORDS:
            yield f"{shown} has {len(name.split())} words"
        elif name in columns[name]:
            yield f"{shown} stands in its own column too"
        elif number is not None and number != place:  # pandas numbers columns without names
            yield f"{shown} is a number"


def add_hint(error: DataError, table: RowTable) -> DataError:
    """The error, and what may be behind it, where columns aren't found since the first line is a row."""
    signs = find_row_signs(table)
    if not signs:
        return error
    first, *others = error.problems
    found = f"{first.found}; the first line may be a row: {signs}"
    return DataError(problems=[replace(first, found=found, remedy=f"{first.remedy}; or {WRITE_NAMES}"), *others])
