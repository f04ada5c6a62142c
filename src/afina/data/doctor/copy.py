"""A cleaned copy of a file or a folder, and the log of what was changed."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afina.data.doctor.fix import UNREAD, Cleaner
from afina.data.doctor.rewrite import rewrite_file
from afina.data.part_files import find_part_files, find_texts
from afina.data.parts import describe_source
from afina.data.read import SAVED, open_files
from afina.data.rows import RowTable
from afina.durable import expand_home
from afina.errors import DataError, refuse_unwritable

LOG_OF_FOLDER = "changes.jsonl"
LOG_OF_FILE = ".changes.jsonl"
COPIED = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
OTHER = "another --fix OUT"


@dataclass(frozen=True)
class FixedCopy:
    """What was written."""

    path: Path
    log: Path
    """A JSON object a change: part, row, rule, and for a cell its column, `before` and `after`."""
    rows: Mapping[str, int]
    """Rows left, by part."""
    rules: Mapping[str, int]
    """Changes by rule."""

    def as_dict(self) -> dict[str, Any]:
        return {"path": str(self.path), "log": str(self.log), "rows": dict(self.rows), "rules": dict(self.rules)}


def check_output(source: Any, output: Path) -> dict[str, list[Path]]:
    """The files to copy, by part.

    Raises:
        DataError: if the data isn't a file or a folder, or if the output is there already or of another format.
    """
    if not isinstance(source, str | os.PathLike) or not expand_home(source).exists():
        raise DataError(
            "--fix copies a file or a folder", found=describe_source(source), remedy="save the rows as a file"
        )
    path = expand_home(source)
    if any((path / name).is_file() for name in SAVED):
        raise DataError(
            f"no cleaned copy of {path} can be written", found="a folder of Dataset.save_to_disk",
            expected=f"a file with one of the suffixes {', '.join(COPIED)}, or a folder of them",
            remedy='write each part as one, datasets.load_from_disk(...).to_parquet("train.parquet"), and check that',
        )  # fmt: skip
    files = find_part_files(path) if path.is_dir() and not find_texts(path) else {"all": [path]}
    for paths in files.values():
        if paths[0].is_dir() or paths[0].suffix.lower() not in COPIED:
            raise DataError(
                f"no cleaned copy of {paths[0].name} can be written", found="a file without named columns",
                expected=f"a file with one of the suffixes {', '.join(COPIED)}",
            )  # fmt: skip
    log = find_log(path, output)
    # A kill between the two renames leaves the log of a copy that isn't there; it is written anew.
    is_left = log.exists() and not output.exists() and name_unfinished(output).is_dir()
    for taken in (output,) if is_left else (output, log):
        if taken.exists():
            raise DataError(f"{taken} exists already, and nothing is written over", remedy=OTHER)
    if not output.parent.is_dir():
        raise DataError(f"the folder {output.parent} doesn't exist", remedy=f"make it, or another --fix than {output}")
    if path.is_dir():
        return files
    if output.suffix.lower() != path.suffix.lower():
        raise DataError(
            "a cleaned copy keeps the format of the data",
            found=f"--fix {output}",
            expected=f"a name that ends in {path.suffix}",
            remedy=f"--fix {output.with_suffix(path.suffix)}",
        )
    return files


def find_log(source: Path, output: Path) -> Path:
    """Where the log goes: into the folder, or beside the file."""
    return output / LOG_OF_FOLDER if source.is_dir() else output.with_name(output.name + LOG_OF_FILE)


def name_unfinished(output: Path) -> Path:
    """Where the copy is until it is whole."""
    return output.with_name(f".{output.name}.tmp")


def write_copy(
    source: Path,
    output: Path,
    tables: Mapping[str, RowTable],
    cleaner: Cleaner,
    drops: Mapping[str, Mapping[int, str]],
) -> FixedCopy:
    """The copy, whole or not at all: everything is written under another name and renamed at the end.

    Raises:
        DataError: as `check_output`, and if the copy can't be begun or can't get its name.
    """
    files = check_output(source, output)
    unfinished = name_unfinished(output)
    shutil.rmtree(unfinished, ignore_errors=True)
    with refuse_unwritable(output, DataError, OTHER):
        unfinished.mkdir()
    log = find_log(source, output)
    rules: Counter[str] = Counter()
    rows = {}
    try:
        written = unfinished / (LOG_OF_FOLDER if source.is_dir() else log.name)
        with written.open("w", encoding="utf-8") as log_file:
            for part, paths in files.items():
                # One file for all shards; a folder of one table holds it as `train`.
                name = paths[0].name if len(paths) == 1 else f"{'train' if part == 'all' else part}{paths[0].suffix}"
                changes = Changes(part, set(tables[part].row_numbers.tolist()), cleaner, drops[part], log_file, rules)
                rows[part] = rewrite_file(open_files(paths), unfinished / name, changes)
                changes.log_unread(tables[part].read_count)
        with refuse_unwritable(output, DataError, OTHER):
            if source.is_dir():
                os.replace(unfinished, output)
            else:
                os.replace(written, log)
                os.replace(unfinished / source.name, output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return FixedCopy(output, log, rows, dict(rules))


@dataclass
class Changes:
    """What becomes of each row of a part, written to the log as it happens."""

    part: str
    readable: set[int]
    cleaner: Cleaner
    drops: Mapping[int, str]
    log: Any
    rules: Counter[str]

    def __call__(self, number: int, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if number not in self.readable:
            return None
        if number in self.drops:
            self._write(number, self.drops[number], before=dict(row), after=None)
            return None
        changed = self.cleaner.clean(row)
        for name, (rule, value) in changed.items():
            self._write(number, rule, column=name, before=row[name], after=value)
        return {name: value for name, (_, value) in changed.items()}

    def log_unread(self, rows: int) -> None:
        """Tell of the rows that couldn't be read."""
        for number in sorted(set(range(1, rows + 1)) - self.readable):
            self._write(number, UNREAD, before=None, after=None)

    def _write(self, row: int, rule: str, **what: Any) -> None:
        self.rules[rule] += 1
        entry = {"part": self.part, "row": row, "rule": rule, **what}
        self.log.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")
