"""Rows from tables that already have types: parquet files, data sets, data frames, and sequences of mappings.

Values become plain Python ones. NaN is a missing value here, since these formats write it for one; dates
become text in ISO form; columns of bytes (pictures, sound) are left out, with a note.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from afina.data.bad_rows import BadRows
from afina.data.json_formats import read_object
from afina.data.text_formats import check_header
from afina.errors import DataError, describe_cause

BATCH_ROWS = 1000
PLAIN = frozenset({str, int, bool, type(None)})


def to_plain(value: Any) -> Any:
    """`value` as None, str, int, float, bool, or a list or dict of these; else as it is."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, float):
        return None if value != value else float(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in (sorted(value, key=str) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, str):
        return str.__str__(value)  # of an Enum of texts what it stands for, not its name
    if isinstance(value, decimal.Decimal):
        return float(value) if value.is_finite() else None
    if isinstance(value, (datetime.date, datetime.time)) and value == value:
        return value.isoformat()
    if isinstance(value, (datetime.timedelta, uuid.UUID)):
        return str(value)
    # pandas writes missing values as these, too.
    return None if type(value).__name__ in ("NAType", "NaTType") else value


class MappingRows:
    """A sequence of mappings, such as a list of dicts."""

    surrogate_fault = "surrogate"
    refuses_nul = False

    def __init__(self, mappings: Sequence[Any], name: str) -> None:
        self.mappings, self.name = mappings, name

    def rows(self, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        for row, mapping in enumerate(self.mappings, 1):
            try:
                if isinstance(mapping, list | tuple):  # a conversation, as a line of jsonl may hold it
                    mapping = read_object(to_plain(mapping)) or mapping
                if not isinstance(mapping, Mapping):
                    bad_rows.add("mapping", row, f"a {type(mapping).__name__}")
                elif not all(type(name) is str for name in mapping):
                    bad_rows.add("key", row, repr(next(name for name in mapping if type(name) is not str)))
                else:
                    yield row, {name: to_plain(value) for name, value in mapping.items()}
            except RecursionError:
                bad_rows.add("deep", row)

    def explain(self, bad_rows: BadRows) -> None:
        """Nothing to add."""


class FrameRows:
    """A pandas DataFrame, known by its type's module: pandas is never imported here."""

    surrogate_fault = "surrogate"
    refuses_nul = False

    def __init__(self, frame: Any, name: str) -> None:
        self.frame, self.name = frame, name

    def rows(self, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        names = [str(name) for name in self.frame.columns]
        check_header(self.name, names)
        for start in range(0, len(self.frame), BATCH_ROWS):
            chunk = self.frame.iloc[start : start + BATCH_ROWS]
            columns = [_list_series(chunk.iloc[:, i]) for i in range(len(names))]
            for row, values in enumerate(zip(*columns, strict=True), start + 1):
                yield row, dict(zip(names, values, strict=True))

    def explain(self, bad_rows: BadRows) -> None:
        """Nothing to add."""


def _list_series(series: Any) -> list[Any]:
    is_missing = series.isna().tolist()
    cells = zip(series.tolist(), is_missing, strict=True)
    return [None if missing else to_plain(value) for value, missing in cells]


class ArrowRows(ABC):
    """Anything that comes in Arrow batches. A subclass says where they come from."""

    surrogate_fault = "surrogate"
    refuses_nul = False
    name: str

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """The record batches, in order."""

    def class_names(self) -> Mapping[str, Sequence[str]]:
        """Names of the classes whose numbers stand in a column."""
        return {}

    def rows(self, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        row, classes, has_noted = 0, self.class_names(), False
        for batch in self.batches():
            names = [field.name for field in batch.schema if not _holds_bytes(field.type)]
            if not has_noted:
                has_noted = True
                check_header(self.name, names)
                self._note_columns(batch.schema.names, names, classes, bad_rows)
            columns = [_name_classes(self._list_values(batch, name), classes.get(name)) for name in names]
            for row, values in enumerate(zip(*columns, strict=True), row + 1):  # noqa: B020 (row goes on counting)
                yield row, {name: to_plain(value) for name, value in zip(names, values, strict=True)}

    def explain(self, bad_rows: BadRows) -> None:  # noqa: B027  most have nothing to explain
        """Nothing to add."""

    def _list_values(self, batch: Any, name: str) -> list[Any]:
        """A column as Python's values. DataError for what Arrow holds and Python can't, such as the year 50000."""
        try:
            return batch.column(name).to_pylist()
        except (pa.ArrowException, ValueError, OverflowError, LookupError) as error:
            raise DataError(
                f"{self.name}: the column {name!r} holds values that can't be read",
                found=describe_cause(error, "the reader"),
                remedy="write the column again, as text or numbers",
            ) from None

    def _note_columns(
        self, all_names: list[str], names: list[str], classes: Mapping[str, Sequence[str]], bad_rows: BadRows
    ) -> None:
        for name in all_names:
            if name not in names:
                bad_rows.notes.append(f"{self.name}: column {name!r} left out, since it holds bytes")
            elif name in classes:
                shown = ", ".join(classes[name][:5]) + (", ..." if len(classes[name]) > 5 else "")
                bad_rows.notes.append(f"{self.name}: numbers in {name!r} read as the classes they stand for: {shown}")


def _name_classes(values: list[Any], names: Sequence[str] | None) -> list[Any]:
    """Class names for numbers, or for lists of them; -1 stands for a label that is missing."""
    if names is None:
        return values

    def name(value: Any) -> Any:
        if isinstance(value, list):
            return [name(each) for each in value]
        return names[value] if isinstance(value, int) and 0 <= value < len(names) else None

    return [name(value) for value in values]


def list_classes(features: Any) -> dict[str, list[str]]:
    """Names of the classes of each column that holds numbers of classes, or lists of them, as the package `datasets`
    describes columns: in a parquet file's own words, or as objects."""
    found = {}
    for column, feature in features.items():
        inner = _look_up(feature, "feature") or feature
        names = _look_up(inner, "names")
        if _look_up(inner, "_type") == "ClassLabel" and isinstance(names, list) and names:
            found[column] = [str(name) for name in names]
    return found


def _look_up(feature: Any, key: str) -> Any:
    return feature.get(key) if isinstance(feature, Mapping) else getattr(feature, key, None)


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return True
    return any(_holds_bytes(kind.field(i).type) for i in range(kind.num_fields))


class ParquetFile(ArrowRows):
    """A parquet file, or the shards of one in their order."""

    def __init__(self, path: Path, *others: Path) -> None:
        self.paths = (path, *others)
        self.name = f"{path.name} and {len(others)} more" if others else path.name

    def batches(self) -> Iterator[Any]:
        for path in self.paths:
            with self._open(path) as file:
                yield from file.iter_batches(batch_size=BATCH_ROWS)

    def class_names(self) -> Mapping[str, Sequence[str]]:
        with self._open(self.paths[0]) as file:
            described = (file.schema_arrow.metadata or {}).get(b"huggingface", b"")
        try:
            return list_classes(json.loads(described)["info"]["features"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return {}  # not of the package `datasets`, or of a later form

    @contextlib.contextmanager
    def _open(self, path: Path) -> Iterator[Any]:
        try:
            with pq.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
                yield file
        except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names of columns that aren't UTF-8
            raise DataError(
                f"{path.name} can't be read as a parquet file",
                found=describe_cause(error, "the parquet reader"),
                expected="a whole parquet file",
                remedy="write or download the file again",
            ) from None


class TableRows(ArrowRows):
    """A table of pyarrow, or what gives one, as the frames of polars do."""

    def __init__(self, table: Any, name: str) -> None:
        self.table, self.name = table, name

    def batches(self) -> Iterator[Any]:
        yield from self.table.to_batches(max_chunksize=BATCH_ROWS)


class DatasetRows(ArrowRows):
    """A `datasets.Dataset`, read as it is stored: pictures and sound are not decoded.

    Args:
        revision: commit of the data set, where it came from the Hub.
        note: what was done before without asking.
    """

    def __init__(self, dataset: Any, name: str, revision: str = "", note: str = "") -> None:
        self.dataset, self.name, self.revision, self.note = dataset, name, revision, note

    def rows(self, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        bad_rows.revision = self.revision
        bad_rows.notes += [self.note] if self.note else []
        yield from super().rows(bad_rows)

    def batches(self) -> Iterator[Any]:
        if len(self.dataset):
            yield from self.dataset.with_format("arrow").iter(batch_size=BATCH_ROWS)

    def class_names(self) -> Mapping[str, Sequence[str]]:
        return list_classes(self.dataset.features)
