"""Rows of one part of the data, on disk in an Arrow file that is read in batches.

The first column of the file holds the row numbers, the others stand in the order of `kinds`. A column whose
values are of several kinds, or are lists or objects, is stored as JSON text and decoded on reading.

Letters in names of arrays: N rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from afina.data.bad_rows import RowNumbers, leave_out
from afina.errors import Problem

Kind = Literal["text", "integer", "decimal", "boolean", "json"]
ARROW_TYPES: dict[Kind, Any] = {
    "text": pa.large_string(),
    "integer": pa.int64(),
    "decimal": pa.float64(),
    "boolean": pa.bool_(),
    "json": pa.large_string(),
}


@dataclass(frozen=True)
class RowTable:
    """Rows that could be read, and what is known about those that couldn't."""

    path: Path
    """The Arrow file."""
    source: str
    """Name of the file or the object the rows came from, for messages."""
    kinds: dict[str, Kind]
    """Kind of each column's values, in the order of the source."""
    row_count: int
    """Rows kept."""
    read_count: int
    """Rows read, the bad ones too."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with the rows that were not kept."""
    notes: tuple[str, ...] = ()
    """What was done without asking."""
    revision: str = ""
    """Commit of the data set on the Hub; empty for what lies here."""
    cell_problems: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    """What is wrong with cells of a column, in rows that were kept with a gap there."""

    def problems_in(self, names: Iterable[str]) -> list[Problem]:
        """What is wrong with the rows for whoever needs these columns."""
        return [*self.problems, *(problem for name in names for problem in self.cell_problems.get(name, ()))]

    def leave_out_told(self, rows: RowNumbers, names: Iterable[str]) -> RowNumbers:
        """The rows without those whose cell in one of these columns couldn't be stored, which is told as that."""
        return leave_out(rows, (problem for name in names for problem in self.cell_problems.get(name, ())))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.kinds)

    @cached_property
    def row_numbers(self) -> NDArray[np.int64]:
        """Numbers of the kept rows (N,), rising; row 1 is the first row of data in the source."""
        return np.concatenate([*self._batch_numbers, np.empty(0, np.int64)])

    def columns(self, *names: str) -> Iterator[tuple[list[Any], ...]]:
        """Batches of Python values: a tuple with one list for each of `names`."""
        for i in range(self._reader.num_record_batches):
            batch = self._reader.get_batch(i)
            yield tuple(self._decode(name, batch.column(self._position(name))) for name in names)

    def column(self, name: str) -> Iterator[Any]:
        """Values of a column, in order."""
        for (values,) in self.columns(name):
            yield from values

    def take(self, indices: Sequence[int] | NDArray[np.int64], names: Sequence[str]) -> dict[str, list[Any]]:
        """Values of the rows at `indices` (0 is the first row kept), by column, in the order of `indices`."""
        indices_N = np.asarray(indices, dtype=np.int64)
        if not len(indices_N):
            return {name: [] for name in names}
        order_N = np.argsort(indices_N, kind="stable")
        sorted_N = indices_N[order_N]
        batch_N = np.searchsorted(self._starts, sorted_N, side="right") - 1
        parts: dict[str, list[Any]] = {name: [] for name in names}
        for i in np.unique(batch_N):
            offsets = pa.array(sorted_N[batch_N == i] - self._starts[i])
            batch = self._reader.get_batch(int(i))
            for name in names:
                parts[name].append(batch.column(self._position(name)).take(offsets))
        back = pa.array(np.argsort(order_N, kind="stable"))
        return {name: self._decode(name, pa.concat_arrays(parts[name]).take(back)) for name in names}

    @cached_property
    def _reader(self) -> Any:
        # Not a memory map: what is read of one stays resident, and grows with the rows.
        return pa.ipc.open_file(pa.OSFile(str(self.path)))

    @cached_property
    def _batch_numbers(self) -> list[NDArray[np.int64]]:
        """Numbers of the rows of each batch. Their column alone is read, and copied: an array that shares its memory
        with a batch would keep all of the batch's texts."""
        options = pa.ipc.IpcReadOptions(included_fields=[0])
        reader = pa.ipc.open_file(pa.OSFile(str(self.path)), options=options)
        return [reader.get_batch(i).column(0).to_numpy().copy() for i in range(reader.num_record_batches)]

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        sizes = [len(numbers) for numbers in self._batch_numbers]
        return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.kinds, 1)}

    def _position(self, name: str) -> int:
        return self._positions[name]

    def _decode(self, name: str, array: Any) -> list[Any]:
        values: list[Any] = array.to_pylist()
        if self.kinds[name] == "json":
            return [None if value is None else json.loads(value) for value in values]
        return values
