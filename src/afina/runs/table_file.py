"""Write rows to a file whose name says the format: jsonl, csv or tsv."""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from afina.data.text_formats import Delimiter
from afina.errors import RunFolderError, refuse_unwritable

DELIMITERS = {".csv": ",", ".tsv": "\t"}
FORMATS = (".csv", ".tsv", ".jsonl")
OTHER = "another --output"


def check_output(path: Path) -> None:
    """Refuse a file that exists, a format that isn't written, or a folder that isn't there.

    Raises:
        RunFolderError: before anything is computed.
    """
    if path.suffix not in FORMATS:
        raise RunFolderError(
            f"the format of {path} isn't known", expected=", ".join(FORMATS), remedy="--output predictions.csv"
        )
    if path.exists():
        raise RunFolderError(f"{path} exists already, and nothing is written over", remedy=OTHER)
    if not path.parent.is_dir():
        raise RunFolderError(
            f"the folder {path.parent} doesn't exist", remedy=f"make it, or another --output than {path}"
        )


def write_rows(rows: Iterator[Mapping[str, Any]], path: Path, delimiter: Delimiter | None = None) -> int:
    """Write all rows whole or not at all (under another name, then renamed), and count them.

    Args:
        delimiter: between the fields of csv and tsv; None for the usual one.

    Raises:
        RunFolderError: if the file can't be opened, before a row is asked for, or can't get its name.
    """
    unfinished = path.with_name(f".{path.name}.tmp")
    with refuse_unwritable(path, RunFolderError, OTHER):
        opened = open(unfinished, "w", encoding="utf-8", newline="")  # noqa: SIM115  (closed below)
    try:
        with opened as file:
            if path.suffix == ".jsonl":
                count = write_json_lines(rows, file)
            else:
                count = write_delimited(rows, file, delimiter or Delimiter(DELIMITERS[path.suffix]))
        with refuse_unwritable(path, RunFolderError, OTHER):
            os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def write_json_lines(rows: Iterator[Mapping[str, Any]], file: Any) -> int:
    """One object a line."""
    count = 0
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        count += 1
    return count


def write_delimited(rows: Iterator[Mapping[str, Any]], file: Any, delimiter: Delimiter) -> int:
    """A header and the rows; lists and mappings are written as JSON, nothing as an empty cell."""
    first = next(rows, None)
    if first is None:
        return 0
    file.write(f"{delimiter.line}\r\n" if delimiter.line else "")
    writer = csv.writer(file, delimiter=delimiter.character)
    writer.writerow(first.keys())
    count = 0
    for row in itertools.chain([first], rows):
        writer.writerow([write_cell(value) for value in row.values()])
        count += 1
    return count


def write_cell(value: Any) -> Any:
    """A value as it stands in a cell."""
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return value
