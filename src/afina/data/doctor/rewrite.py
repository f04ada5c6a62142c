"""A file written again, row by row, in its own format: some rows left out, some cells changed, all else as it was."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from afina.data.bad_rows import BadRows
from afina.data.json_formats import JsonLinesFile
from afina.data.shards import Shards
from afina.data.spool import Source
from afina.data.tables import ParquetFile
from afina.data.text_formats import DelimitedFile

Change = Callable[[int, Mapping[str, Any]], Mapping[str, Any] | None]
"""From a row's number and cells to the cells that change (empty: none); None leaves the row out."""


def rewrite_file(source: Source, output: Path, change: Change) -> int:
    """The rows that were written to `output`, in the format of the source."""
    if isinstance(source, ParquetFile):
        return rewrite_parquet(source, output, change)
    first = source.sources[0] if isinstance(source, Shards) else source
    if isinstance(first, DelimitedFile):
        return rewrite_delimited(first, keep_rows(source, change), output)
    return rewrite_json(keep_rows(source, change), output, is_array=not isinstance(first, JsonLinesFile))


def keep_rows(source: Source, change: Change) -> Iterator[dict[str, Any]]:
    """The rows as they are to stand."""
    for number, row in source.rows(BadRows(source.name)):
        cells = change(number, row)
        if cells is not None:
            yield {**row, **cells}


def rewrite_delimited(source: DelimitedFile, rows: Iterator[dict[str, Any]], output: Path) -> int:
    """A header and the rows, by the delimiter, the line ends and the byte order mark of the source."""
    with source.path.open("rb") as file:
        start = file.readline()
    encoding = "utf-8-sig" if start.startswith(codecs.BOM_UTF8) else "utf-8"
    line_end = "\r\n" if start.endswith(b"\r\n") else "\n"
    delimiter = source.find_delimiter()
    with output.open("w", encoding=encoding, newline="") as file:
        file.write(delimiter.line + line_end if delimiter.line else "")
        writer = csv.writer(file, delimiter=delimiter.character, lineterminator=line_end)
        writer.writerow(source.read_names())
        count = 0
        for count, row in enumerate(rows, 1):  # noqa: B007  (its last value is the result)
            writer.writerow(["" if value is None else value for value in row.values()])
    return count


def rewrite_json(rows: Iterator[dict[str, Any]], output: Path, *, is_array: bool) -> int:
    """An object a line, or an array of objects with one a line."""
    count = 0
    with output.open("w", encoding="utf-8", newline="\n") as file:
        file.write("[" if is_array else "")
        for count, row in enumerate(rows, 1):
            before = ("," if count > 1 else "") + "\n" if is_array else ""
            file.write(before + json.dumps(row, ensure_ascii=False) + ("" if is_array else "\n"))
        file.write("\n]\n" if is_array else "")
    return count


def rewrite_parquet(source: ParquetFile, output: Path, change: Change) -> int:
    """Batches of the same schema; columns that nobody reads, bytes among them, are copied as they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, count, classes = iter(source.rows(BadRows(source.name))), 0, source.class_names()
    with pq.ParquetWriter(output, pq.read_schema(source.paths[0])) as writer:
        for batch in source.batches():
            kept, changed = [], []
            for place in range(batch.num_rows):
                cells = change(*next(rows))
                if cells is not None:
                    kept.append(place)
                    changed.append(cells)
            table = batch.take(pa.array(kept, pa.int64()))
            for name in {name for cells in changed for name in cells}:
                column = batch.schema.names.index(name)
                values = table.column(column).to_pylist()
                known = classes.get(name)
                values = [
                    number_class(cells[name], value, known) if name in cells else value
                    for cells, value in zip(changed, values, strict=True)
                ]
                table = table.set_column(column, name, pa.array(values, batch.schema.field(column).type))
            writer.write_batch(table)
            count += len(kept)
    return count


def number_class(given: Any, stored: Any, known: Sequence[str] | None) -> Any:
    """A changed cell as the file holds it: the number of a class where names were read for numbers, the old one for a
    name that isn't among them."""
    if known is None:
        return given
    if isinstance(given, list) and isinstance(stored, list) and len(given) == len(stored):
        return [number_class(*pair, known) for pair in zip(given, stored, strict=True)]
    return known.index(given) if given in known else stored
