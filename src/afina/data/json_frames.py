"""Rows from json files as pandas writes them unless told otherwise: one object of columns, of rows by their index, or
of names and lists of values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from afina.data.bad_rows import BadRows
from afina.data.encoding import check_bytes, make_encoding_error
from afina.data.json_formats import DECODER, fault_of
from afina.errors import DataError

# What `DataFrame.to_json` begins with for orient="columns", its default, "index" and "split". An index begins with any
# number where rows were shuffled or chosen.
BEGINNING = re.compile(rb'\{\s*("(columns|index)"\s*:\s*\[|"[^"]*"\s*:\s*\{\s*"\d+"\s*:|"\d+"\s*:\s*\{)')
LARGEST_BYTES = 2**29
AS_LINES = 'in pandas: DataFrame.to_json("rows.jsonl", orient="records", lines=True)'


class JsonFrameFile:
    """A file with one object, in which pandas wrote a frame; held in memory whole, as there is no row to stop at."""

    surrogate_fault = "surrogate"
    refuses_nul = False

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name

    def rows(self, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """See `Source`."""
        check_bytes(self.path)
        if (size := self.path.stat().st_size) > LARGEST_BYTES:
            raise DataError(
                f"{self.name} is too large for one object", found=f"{size:,} bytes",
                expected=f"at most {LARGEST_BYTES:,}, or an object a line", remedy=AS_LINES,
            )  # fmt: skip
        written = self._parse()
        found = read_split(written) or read_columns(written) or read_index(written)
        if found is None:
            raise DataError(
                f"{self.name} is one object whose columns don't fit together",
                found="lists or objects of several sizes", expected="each column with a value for each row",
                remedy=AS_LINES,
            )  # fmt: skip
        bad_rows.notes.append(f"{self.name}: one object, as pandas writes it, read row by row")
        names, values = found
        for row, cells in enumerate(values, 1):
            yield row, dict(zip(names, cells, strict=True))

    def explain(self, bad_rows: BadRows) -> None:
        """Nothing to add: bad bytes end the reading."""

    def _parse(self) -> dict[str, Any]:
        try:
            return dict(DECODER.decode(self.path.read_text(encoding="utf-8-sig")))
        except UnicodeDecodeError:
            raise make_encoding_error(self.path) from None
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{self.name} is not one JSON object", found=str(fault_of(error)) or "a number of too many digits",
                expected="one array of objects, or one object a line", remedy=AS_LINES,
            ) from None  # fmt: skip


def read_split(written: Mapping[str, Any]) -> tuple[list[str], list[Any]] | None:
    """Names and rows of orient="split"; None for anything else."""
    names, rows = written.get("columns"), written.get("data")
    if not written.keys() <= {"columns", "index", "data"} or not isinstance(names, list) or not isinstance(rows, list):
        return None
    are_rows = all(isinstance(row, list) and len(row) == len(names) for row in rows)
    are_names = all(isinstance(name, str) for name in names) and len({*names}) == len(names)
    return (names, rows) if are_rows and are_names else None


def read_columns(written: Mapping[str, Any]) -> tuple[list[str], list[Any]] | None:
    """Names and rows of orient="columns": an object for each column, with a value by each key of the index."""
    columns = list(written.values())
    if not columns or not all(isinstance(column, dict) for column in columns):
        return None
    keys = list(columns[0])
    if not all(map(str.isdigit, keys)) or not all(column.keys() == columns[0].keys() for column in columns):
        return None
    return list(written), [[column[key] for column in columns] for key in keys]


def read_index(written: Mapping[str, Any]) -> tuple[list[str], list[Any]] | None:
    """Names and rows of orient="index": an object for each row, by its key."""
    rows = list(written.values())
    if not rows or not all(map(str.isdigit, written)) or not all(isinstance(row, dict) for row in rows):
        return None
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, [[row.get(name) for name in names] for row in rows]


def holds_frame(path: Path) -> bool:
    """Whether a json file looks as if pandas had written a frame into it as one object."""
    with path.open("rb") as file:
        begins = file.read(2**16).removeprefix(b"\xef\xbb\xbf").lstrip()
    return bool(BEGINNING.match(begins)) and not _is_line(begins)


def _is_line(begins: bytes) -> bool:
    """Whether the first line is an object by itself and others follow."""
    first, end, rest = begins.partition(b"\n")
    if not end or not rest.strip():
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True
