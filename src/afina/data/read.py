"""From what the user names to rows on disk: `read_parts` is the only way in.

A source is a file, a folder with train.* (and maybe validation.* and test.*), of numbered files or of plain texts, the
id of a data set on the Hub, or in Python a `datasets.Dataset`, a frame of pandas or polars, a table of pyarrow, a
sequence of mappings, or a dict of parts. Rows that can't be read are no error here: each table lists them, and the
caller decides.
"""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from afina.data.hub import ACCEPTED, is_hub_id, load_hub_dataset, load_saved_dataset
from afina.data.json_formats import JsonLinesFile, open_json
from afina.data.json_frames import JsonFrameFile, holds_frame
from afina.data.line_formats import TaggedLinesFile, TextFolder, open_text
from afina.data.part_files import NAMES_SHOWN, PART_NAMES, SUFFIXES, describe_unread, find_part_files, find_texts
from afina.data.rows import RowTable
from afina.data.shards import Noted, Shards
from afina.data.spool import Source, spool_rows
from afina.data.tables import DatasetRows, FrameRows, MappingRows, ParquetFile, TableRows
from afina.data.text_formats import DelimitedFile, Delimiter
from afina.durable import expand_home
from afina.errors import CLOSE, DataError, describe_cause

__all__ = ["RowTable", "read_parts"]

DELIMITED = {".csv": ",", ".tsv": "\t"}
# What other programs write, and how it becomes something that is read here.
OTHER_SUFFIXES = {
    ".gz": "gunzip -k {path}", ".zip": "unzip {path}", ".bz2": "bunzip2 -k {path}", ".xz": "unxz -k {path}",
    ".zst": "unzstd {path}", ".ndjson": "rename it to {stem}.jsonl",
    **dict.fromkeys((".xls", ".xlsx", ".ods"), "save the sheet as csv"),
    **dict.fromkeys((".arrow", ".pkl", ".feather"), "write it as parquet, with pandas or datasets"),
}  # fmt: skip
USUAL = "convert the file, or rename it if it holds one of these formats"
SAVED = ("dataset_dict.json", "state.json")
"""A file that `save_to_disk` of the package `datasets` writes into its folder."""


def read_parts(source: Any, spool: Path, *, trains: bool = True) -> dict[str, RowTable]:
    """Tables by part: `all` for a single table, else `train` and maybe `validation` and `test`.

    Where nothing is to be trained, `train` may be missing.

    The rows go to Arrow files in the folder `spool`. DataError with all that keeps the source from being read
    as a table; MissingExtraError for a Hub id without the package `datasets`.
    """
    parts = {part: read() for part, read in _find_sources(source, trains).items()}
    return {part: spool_rows(parts[part], spool / f"{part}.arrow") for part in sorted(parts, key=_order)}


def _order(part: str) -> int:
    return ["all", "train", "validation", "test"].index(part)


def _find_sources(source: Any, trains: bool) -> dict[str, Any]:
    """Openers of sources, by part."""
    if isinstance(source, (str, os.PathLike)):
        return _find_named(os.fspath(source), trains)
    if isinstance(source, Mapping):
        return _find_in_mapping(source, trains)
    return {"all": lambda: open_object(source, "the data")}


def _find_named(name: str, trains: bool) -> dict[str, Any]:
    if isinstance(name, bytes) or not name or "\0" in name:
        raise DataError(f"{name!r} is no path", expected=ACCEPTED)
    path = expand_home(name)
    check_reachable(path)
    if name == "-" or path.is_fifo():
        raise DataError(
            "rows aren't read from a pipe: they are looked at more than once", remedy="write them to a file"
        )
    if path.is_dir():
        return _find_in_folder(path, trains)
    if path.exists():
        return {"all": lambda: open_file(path)}
    if _is_path(name) or not is_hub_id(name):
        raise missing_file(path)
    return _find_on_hub(name)


def check_reachable(path: Path) -> None:
    """DataError where the system doesn't let this user look at what lies there."""
    try:
        path.stat()
        if path.is_dir():
            next(path.iterdir(), None)
    except PermissionError as error:
        raise DataError(f"{path} can't be read", found=describe_cause(error), remedy="permission to read it") from None
    except OSError:
        return  # it isn't there, or is a name that no file can have, which is said in its place


def _find_in_folder(folder: Path, trains: bool) -> dict[str, Any]:
    """Openers of the parts in a folder: files of one's own, or what the package `datasets` writes."""
    if any((folder / name).is_file() for name in SAVED):
        return _find_sources(load_saved_dataset(folder), trains)
    if texts := find_texts(folder):
        return {"all": lambda: TextFolder(texts)}
    found = find_part_files(folder, trains=trains)
    openers: dict[str, Any] = {part: (lambda files=files: open_files(files)) for part, files in found.items()}
    if note := describe_unread(found):
        first = "train" if "train" in openers else next(iter(openers))
        openers[first] = lambda files=found[first]: Noted(open_files(files), note)
    return openers


def _find_on_hub(name: str) -> dict[str, Any]:
    """Openers of the parts of a data set on the Hub; what it brings beside them is told."""
    dataset, commit = load_hub_dataset(name)
    keys = choose_hub_parts(list(dataset))
    if not keys:
        raise DataError(
            f"the data set {name!r} has no training part",
            found=f"parts: {', '.join(map(repr, dataset)) or 'none'}",
            expected="a part train (or train_sft), and maybe validation and test",
            remedy="load the part in Python and give it to afina.fit",
        )
    others = [key for key in dataset if key not in keys.values()]
    note = f"the data set {name!r}: commit {commit}" + (f"; parts left out: {', '.join(others)}" if others else "")
    return {
        part: lambda key=key, note=note if part == "train" else "": DatasetRows(
            dataset[key], f"the data set {name!r}, part {key!r}", commit, note
        )
        for part, key in keys.items()
    }


def choose_hub_parts(keys: Sequence[str]) -> dict[str, str]:
    """Keys of a data set by part: those with plain names, else those for fine-tuning (`_sft`); empty without train."""
    for suffix in ("", "_sft"):
        named = {key.lower().removesuffix(suffix): key for key in keys if key.lower().endswith(suffix)}
        found = {PART_NAMES[name]: key for name, key in named.items() if name in PART_NAMES}
        if "train" in found:
            return found
    return {}


def _is_path(name: str) -> bool:
    suffix = Path(name).suffix.lower()
    return name.startswith((".", "~", "/")) or "\\" in name or suffix in (*SUFFIXES, *OTHER_SUFFIXES)


def missing_file(path: Path) -> DataError:
    """The error for a path that leads nowhere, with names nearby that are alike."""
    similar: list[str] = []
    if path.parent.is_dir():
        names = sorted(entry.name for entry in path.parent.iterdir())
        same_stem = [name for name in names if Path(name).stem.lower() == path.stem.lower()]
        similar = list(dict.fromkeys([*same_stem, *difflib.get_close_matches(path.name, names, 3, CLOSE)]))[:3]
        found = f"files with a similar name: {', '.join(similar)}" if similar else "no file with a similar name"
    else:
        found = f"there is no folder {path.parent} either"
    remedy = f"write {path.parent / similar[0]}" if similar else "check the path and the folder you are in"
    return DataError(f"there is no file or folder {path}", found=found, expected=ACCEPTED, remedy=remedy)


def open_files(paths: Sequence[Path]) -> Source:
    """The reader of a part's file, or of its shards."""
    if len(paths) == 1:
        return open_file(paths[0])
    if paths[0].suffix.lower() == ".parquet":
        return ParquetFile(*paths)
    sources = [open_file(path) for path in paths]
    first = sources[0]
    for source in sources:
        if isinstance(first, DelimitedFile) and isinstance(source, DelimitedFile):
            check_same_names(first, source)
    return Shards(sources)


def check_same_names(first: DelimitedFile, other: DelimitedFile) -> None:
    """Refuse a shard that has other columns than the first one: they would be no table together."""
    names, wanted = other.read_names(), first.read_names()
    if names != wanted:
        raise DataError(
            f"{other.name} has other columns than {first.name}, which is of the same table by its name",
            found=f"columns: {', '.join(names[:NAMES_SHOWN])}", expected=f"columns: {', '.join(wanted[:NAMES_SHOWN])}",
            remedy="name the file itself, or mend its first line",
        )  # fmt: skip


def open_file(path: Path) -> Source:
    """The reader of a file, by its suffix."""
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in SUFFIXES:
        what = f"the suffix {suffix!r}" if suffix else "no suffix"
        raise DataError(
            f"{path} is of no format that can be read",
            found=what if path.is_file() else "not a regular file",
            expected=f"a file with one of the suffixes {', '.join(SUFFIXES)}",
            remedy=OTHER_SUFFIXES.get(suffix, USUAL).format(path=shlex.quote(str(path)), stem=path.stem),
        )
    try:
        path.open("rb").close()
    except OSError as error:
        raise DataError(f"{path} can't be opened", found=str(error.strerror), expected="a file you may read") from None
    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty", expected="a file with at least one row of data")
    if suffix in DELIMITED:
        return DelimitedFile(path, DELIMITED[suffix])
    if suffix == ".jsonl":
        return JsonLinesFile(path)
    if suffix in (".json", ".txt"):
        if suffix == ".txt":
            return open_text(path)
        return JsonFrameFile(path) if holds_frame(path) else open_json(path)
    return ParquetFile(path) if suffix == ".parquet" else TaggedLinesFile(path)


def _find_in_mapping(parts: Mapping[Any, Any], trains: bool) -> dict[str, Any]:
    """Openers for a dict of parts, such as a `datasets.DatasetDict`."""
    if columns := list_columns(parts):
        return {"all": lambda: columns}
    by_part: dict[str, Any] = {}
    for key, value in parts.items():
        part = PART_NAMES.get(str(key).lower())
        if part is None or part in by_part:
            raise DataError(
                f"the data has a part {key!r}",
                found=f"parts: {', '.join(map(repr, parts))}",
                expected="train, and maybe validation and test, each once",
                remedy='give a dict such as {"train": rows, "test": rows}, or one table alone',
            )
        by_part[part] = lambda value=value, part=part: open_object(value, f"the data, part {part!r}")
    if "train" not in by_part and (trains or not by_part):
        raise DataError(
            "the data has no training part",
            found=f"parts: {', '.join(map(repr, parts)) or 'none'}",
            expected="a part train, and maybe validation and test",
        )
    return by_part


def list_columns(parts: Mapping[Any, Any], source: str = "the data") -> MappingRows | None:
    """The rows of a dict of columns, such as `datasets.Dataset.from_dict` takes; None for anything else."""
    columns = {name: list_column(value) for name, value in parts.items()}
    if not parts or any(str(name).lower() in PART_NAMES or column is None for name, column in columns.items()):
        return None
    if all(column and isinstance(column[0], Mapping) for column in columns.values()):
        return None  # parts by other names
    lengths = {str(name): len(column or ()) for name, column in columns.items()}
    if len({*lengths.values()}) > 1:
        raise DataError(
            f"{source} has columns of several lengths", found=", ".join(f"{n}: {k:,}" for n, k in lengths.items()),
            expected="a value in each column for each row",
        )  # fmt: skip
    rows = zip(*(column or () for column in columns.values()), strict=True)
    return MappingRows([dict(zip(lengths, row, strict=True)) for row in rows], source)


def list_column(value: Any) -> list[Any] | None:
    """The values of one column: of a list, a `datasets.Column` or another sequence, an array of one
    dimension or two, or a series; None for anything else."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return list(value)
    for name in ("to_pylist", "to_list"):  # of pyarrow, and of polars
        if hasattr(value, name) and not hasattr(value, "columns") and not hasattr(value, "column_names"):
            return list(getattr(value, name)())
    return list(value.tolist()) if hasattr(value, "tolist") and getattr(value, "ndim", 0) in (1, 2) else None


def find_delimiter(source: Any, suffix: str) -> Delimiter | None:
    """What separates the fields of the file that `source` is predicted from; None if it has another suffix."""
    if not isinstance(source, (str, os.PathLike)):
        return None
    path = expand_home(source)
    if path.is_dir() and not find_texts(path):
        files = find_part_files(path, trains=False)
        path = files[choose_part(files)][0]
    if suffix not in DELIMITED or path.suffix.lower() != suffix or not path.is_file():
        return None
    return DelimitedFile(path, DELIMITED[suffix]).find_delimiter()


def choose_part(parts: Collection[str]) -> str:
    """The part that is scored or predicted where a source brings several: the one furthest from training."""
    return next(part for part in ("all", "test", "validation", "train") if part in parts)


def open_object(value: Any, name: str) -> Source:
    """The reader of a Python object that holds one table."""
    module, kind = type(value).__module__.split(".")[0], type(value).__name__
    if isinstance(value, (str, os.PathLike)):
        path = expand_home(value)
        if not path.exists():
            raise missing_file(path)
        return open_file(path)
    if isinstance(value, Mapping) and (columns := list_columns(value, name)):
        return columns
    if module == "datasets" and kind == "Dataset":
        return DatasetRows(value, name)
    if module == "pandas" and kind == "DataFrame":
        return FrameRows(value, name)
    if module == "pyarrow" and kind == "Table":
        return TableRows(value, name)
    if module == "polars" and kind == "DataFrame":
        return TableRows(value.to_arrow(), name)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return MappingRows(value, name)
    raise DataError(
        f"{name} can't be read",
        found=f"an object of type {module}.{kind}",
        expected="a path, a datasets.Dataset, a frame of pandas or polars, a pyarrow.Table, a sequence of mappings, or"
        " a dict of parts",
        remedy="list(rows)" if isinstance(value, Iterable) else "",
    )
