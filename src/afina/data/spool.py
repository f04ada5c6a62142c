"""Rows from any source, written to an Arrow file in one stream.

The kind of a column is inferred while streaming. When a later row contradicts it (or brings a new column),
writing stops, the rest is only looked at, and the source is read once more with the wider kinds: memory stays
that of a batch, and a well-behaved file is read once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from afina.data.bad_rows import BadRows, forbid_dropping
from afina.data.cells import CellFaultError, build_array, find_cell_fault, find_text_fault, join_kinds
from afina.data.rows import ARROW_TYPES, Kind, RowTable
from afina.errors import DataError, describe_cause
from afina.wording import count

BATCH_BYTES = 4 * 2**20
ROWS_FIRST, ROWS_MOST = 256, 8192
COLUMNS_MOST = 10_000
GAPS = ("type", "infinite", "long")
"""Faults of a cell that leave the others of its row as good as they are."""
Rows = list[tuple[int, Mapping[str, Any]]]


class Source(Protocol):
    """A place that rows come from; it can be read more than once."""

    name: str
    surrogate_fault: str
    """What half a surrogate pair stands for: `bytes` where the decoder leaves them for bad bytes."""

    refuses_nul: bool
    """Whether NUL characters are a fault; JSON and typed tables spell them on purpose, and keep them."""

    def rows(self, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Row numbers from 1 and values (None, str, int, float, bool, or lists and dicts of these)."""
        ...

    def explain(self, bad_rows: BadRows) -> None:
        """Add what only a second look at the source can tell about the faults found."""
        ...


def spool_rows(source: Source, path: Path) -> RowTable:
    """The rows of `source`, in the Arrow file `path`. DataError when there are none or it can't go on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    kinds: dict[str, Kind | None] = {}
    try:
        while True:
            bad_rows = BadRows(source.name)
            spool = _Pass(source, bad_rows, kinds, partial)
            try:
                spool.run()
            except DataError as error:
                source.explain(bad_rows)
                raise DataError(problems=(*bad_rows.problems(), *error.problems)) from None
            if not spool.is_stale:
                break
        source.explain(bad_rows)
        _check_any_rows(source, spool)
        os.replace(partial, path)
    except OSError as error:
        raise DataError(f"{source.name} can't be read into {path.parent}", found=describe_cause(error)) from error
    finally:
        partial.unlink(missing_ok=True)
    known: dict[str, Kind] = {name: kind or "text" for name, kind in kinds.items()}
    return RowTable(
        path,
        source.name,
        known,
        spool.kept_count,
        spool.read_count,
        bad_rows.problems(),
        tuple(bad_rows.notes),
        bad_rows.revision,
        bad_rows.cell_problems(),
    )


def _check_any_rows(source: Source, spool: _Pass) -> None:
    if not spool.kept_count and spool.bad_rows.rows:
        raise DataError(
            f"{source.name}: none of its {spool.read_count:,} rows can be used",
            problems=forbid_dropping(spool.bad_rows.problems()),
        )
    if not spool.kept_count or not spool.kinds:
        raise DataError(f"{source.name} holds no rows of data", expected="at least one row with named values")


class _Pass:
    """One reading of the source: writes batches while `kinds` hold, and widens `kinds` in place."""

    def __init__(self, source: Source, bad_rows: BadRows, kinds: dict[str, Kind | None], path: Path) -> None:
        self.source, self.bad_rows, self.kinds, self.path = source, bad_rows, kinds, path
        self.is_stale = False
        self.kept_count = self.read_count = 0
        self._writer: Any = None
        self._schema: Any = None
        self._nul_counts: Counter[str] = Counter()
        self._batch_rows = ROWS_FIRST

    def run(self) -> None:
        rows: Rows = []
        self.path.unlink(missing_ok=True)
        try:
            for item in self.source.rows(self.bad_rows):
                rows.append(item)
                if len(rows) >= self._batch_rows:
                    self._add_batch(rows)
                    rows = []
            self._add_batch(rows)
        finally:
            self._close()
        for name, found in self._nul_counts.items():
            self.bad_rows.notes.append(f"{self.source.name}: NUL characters kept in {count(found, 'row')} of {name!r}")
        for column in dict.fromkeys(column for column, _ in self.bad_rows.cells):
            total = sum(len(rows) for (name, _), rows in self.bad_rows.cells.items() if name == column)
            self.bad_rows.notes.append(
                f"{self.source.name}: gaps in {count(total, 'row')} of {column!r}, whose values can't be stored"
            )
        # A row counts as read whether its source refused it or the checks here did.
        bad = sum(len(numbers) for numbers in self.bad_rows.rows.values())
        self.read_count = self.kept_count + bad

    def _add_batch(self, rows: Rows) -> None:
        rows = self._drop_bad_names(rows)
        if not rows:
            return
        values = self._split_columns(rows)
        if self._widen(values):
            self.is_stale = self.is_stale or self._writer is not None
        if self.is_stale:
            self._close()
            return
        try:
            arrays = self._build_arrays(values)
        except CellFaultError:
            self._add_batch(self._drop_bad_cells(rows))
            return
        if arrays is not None:
            self._write(rows, arrays)
        elif self._writer is None:
            self._add_batch(rows)
        else:
            self.is_stale = True

    def _split_columns(self, rows: Rows) -> dict[str, list[Any]]:
        mappings = [mapping for _, mapping in rows]
        names = dict.fromkeys(self.kinds)
        for mapping in mappings:
            if mapping.keys() != names.keys():
                names.update(dict.fromkeys(mapping))
                if len(names) > COLUMNS_MOST:
                    _refuse_columns(self.source.name)
        if self.is_stale:
            return _gather_present(mappings)
        return {name: [mapping.get(name) for mapping in mappings] for name in names}

    def _widen(self, values: dict[str, list[Any]]) -> bool:
        is_wider = False
        for name, cells in values.items():
            old = self.kinds.get(name)
            new = join_kinds(old, cells)
            is_wider = is_wider or name not in self.kinds or (new or "text") != (old or "text")
            self.kinds[name] = new
        return is_wider

    def _build_arrays(self, values: dict[str, list[Any]]) -> list[Any] | None:
        """Arrow arrays in the order of `kinds`; None when a kind turned out too narrow and was widened."""
        arrays = []
        for name, kind in self.kinds.items():
            try:
                array = build_array(values[name], kind or "text")
            except (OverflowError, pa.ArrowInvalid):
                self.kinds[name] = "json"
                return None
            if kind == "text":
                self._check_nul(name, array)
            arrays.append(array)
        return arrays

    def _check_nul(self, name: str, array: Any) -> None:
        found = pc.sum(pc.match_substring(array, "\0")).as_py()
        if found and self.source.refuses_nul:
            raise CellFaultError
        if found:
            self._nul_counts[name] += found

    def _write(self, rows: Rows, arrays: list[Any]) -> None:
        numbers = pa.array([number for number, _ in rows], pa.int64())
        if self._writer is None:
            fields = [pa.field(name, ARROW_TYPES[kind or "text"]) for name, kind in self.kinds.items()]
            self._schema = pa.schema([pa.field("", pa.int64()), *fields])
            self._writer = pa.ipc.new_file(str(self.path), self._schema)
        batch = pa.record_batch([numbers, *arrays], schema=self._schema)
        self._writer.write_batch(batch)
        self.kept_count += len(rows)
        fitting = int(BATCH_BYTES * len(rows) / max(batch.nbytes, 1))
        self._batch_rows = max(1, min(fitting, 4 * len(rows), ROWS_MOST))

    def _drop_bad_names(self, rows: Rows) -> Rows:
        """Rows without names of columns that can't be written."""
        bad = {
            name
            for _, mapping in rows
            for name in mapping.keys() - self.kinds.keys()
            if find_text_fault(name) == "surrogate"
        }
        if not bad:
            return rows
        kept = []
        for number, mapping in rows:
            if bad.isdisjoint(mapping):
                kept.append((number, mapping))
            else:
                self.bad_rows.add(self.source.surrogate_fault, number)
        return kept

    def _drop_bad_cells(self, rows: Rows) -> Rows:
        """Rows without those that hold text which can't be written, and with gaps for other values that can't."""
        kept = []
        for number, mapping in rows:
            faults = {name: fault for name, value in mapping.items() if (fault := find_cell_fault(value))}
            gaps = [name for name, fault in faults.items() if fault in GAPS]
            is_counted = {"nul": self.source.refuses_nul, **dict.fromkeys(GAPS, False)}
            name = next((name for name, fault in faults.items() if is_counted.get(fault, True)), None)
            if name is None:
                for gap in gaps:
                    self.bad_rows.add_cell(gap, faults[gap], number)
                kept.append((number, {**mapping, **dict.fromkeys(gaps)} if gaps else mapping))
            else:
                code = self.source.surrogate_fault if faults[name] == "surrogate" else faults[name]
                self.bad_rows.add(code, number, f"in column {name!r}")
        return kept

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _refuse_columns(source: str) -> None:
    raise DataError(
        f"{source} has more than {COLUMNS_MOST:,} columns",
        expected="a column for the text and one for the label, and not many more",
        remedy="keep only the columns that are needed",
    )


def _gather_present(mappings: list[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Values by column without the missing ones: all that a pass needs which only looks at kinds."""
    values: dict[str, list[Any]] = {}
    for mapping in mappings:
        for name, value in mapping.items():
            values.setdefault(name, []).append(value)
    return values
