"""Rows from csv and tsv files, read strictly.

Decisions: every cell is text, and an empty one is missing. Blank lines are skipped and counted in a note. Empty fields
after the last named column are no fields, as spreadsheets write them; columns there without a name are left out, but
rows that seem to reach into them by a comma too many are ragged.
Bytes that are not UTF-8 are decoded to lone surrogates, so that one pass finds them together with the ragged
rows; only when there are some does a second look at the bytes find the offset. A field may hold
`FIELD_CHARACTERS`: what is longer is a quote that was never closed, and reading the rest of the file into one
field would fill the memory.
"""

from __future__ import annotations

import contextlib
import csv
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from afina.data.bad_rows import BadRows
from afina.data.encoding import check_bytes, explain_bytes
from afina.errors import DataError, Problem
from afina.wording import count

FIELD_CHARACTERS = 16 * 2**20
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
COUNTS_SHOWN = 5
MOST_REPEATED = 1000
# Excel's own line before the header, which says what separates the fields.
SEPARATOR_CHARACTERS = 16
SEPARATOR_LINE = re.compile(r"sep=(.)\s*")


@dataclass(frozen=True)
class Delimiter:
    """What separates the fields of a file."""

    character: str
    is_said: bool = False
    """Whether a line before the header says so, which a copy of the file needs too."""

    @property
    def line(self) -> str:
        """That line, or nothing."""
        return f"sep={self.character}" if self.is_said else ""


class DelimitedFile:
    """A csv or tsv file with a header."""

    surrogate_fault = "bytes"
    refuses_nul = True

    def __init__(self, path: Path, delimiter: str) -> None:
        self.path, self.name, self.delimiter = path, path.name, delimiter
        self._lengths: Counter[int] = Counter()
        self._full_width = 0

    def rows(self, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        check_bytes(self.path)
        self._lengths.clear()
        # The limit belongs to the process: it is put back, so that other readers keep theirs.
        limit = csv.field_size_limit(FIELD_CHARACTERS)
        try:
            delimiter = self.find_delimiter()
            if delimiter.character != self.delimiter:
                bad_rows.notes.append(f"{self.name}: {self._explain(delimiter)}")
            with self._open() as file:
                yield from self._read(csv.reader(file, delimiter=delimiter.character, strict=True), bad_rows)
        finally:
            csv.field_size_limit(limit)

    def read_names(self) -> list[str]:
        """The names of the columns."""
        with self._open() as file:
            header = self._read_header(csv.reader(file, delimiter=self.find_delimiter().character, strict=True))
            return header[self._count_unnamed(header) :]

    def explain(self, bad_rows: BadRows) -> None:
        if "bytes" in bad_rows.rows:
            bad_rows.describe("bytes", *explain_bytes(self.path))
        if "ragged" in bad_rows.rows:
            shown = self._lengths.most_common(COUNTS_SHOWN)
            counts = (f"{count(n, 'field')} in {count(rows, 'row')}" for n, rows in shown)
            bad_rows.describe("ragged", ", ".join(counts))

    def find_delimiter(self) -> Delimiter:
        """What separates the fields: the usual one, or in a csv file whose header has no comma what it has instead."""
        if self.delimiter != ",":
            return Delimiter(self.delimiter)
        if said := self._read_separator():
            return Delimiter(said, is_said=True)
        with self._open() as file:
            header = file.readline(FIELD_CHARACTERS)
        others = [] if "," in header else [other for other in OTHER_DELIMITERS if other in header]
        return Delimiter(others[0] if others else self.delimiter)

    def _read_separator(self) -> str:
        """What a line before the header says that separates the fields; empty without one."""
        with self.path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            said = SEPARATOR_LINE.fullmatch(file.readline(SEPARATOR_CHARACTERS))
        return said[1] if said else ""

    def _explain(self, delimiter: Delimiter) -> str:
        plural = OTHER_DELIMITERS.get(delimiter.character, f"{delimiter.character!r}")
        if delimiter.is_said:
            return f"its first line says that {plural} separate its fields"
        return f"the header has no comma but {plural}, so {plural} separate its fields"

    def _open(self) -> TextIO:
        """The file from its header on."""
        file = self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
        if not SEPARATOR_LINE.fullmatch(file.readline(SEPARATOR_CHARACTERS)):
            file.seek(0)
        return file

    def _read(self, reader: Any, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        header = self._read_header(reader)
        width, skipped = len(header), self._count_unnamed(header)
        spilled, before = 0, int(bool(self._read_separator()))
        repeated = self._find_repeated(width) if self._full_width > width else None
        if skipped:
            header = header[skipped:]
            bad_rows.notes.append(f"{self.name}: the first column has numbers and no name, as an index: left out")
        row, blank_count, line = 0, 0, reader.line_num
        while True:
            try:
                # The inner loop is the hot one; an error leaves it, and the next line starts afresh.
                for cells in reader:
                    line = reader.line_num
                    if not cells:
                        blank_count += 1
                        continue
                    row += 1
                    if len(cells) == width:
                        if skipped:
                            cells = cells[skipped:]
                        yield row, dict(zip(header, [cell or None for cell in cells], strict=True))
                    elif self._fits(cells, width, repeated):
                        spilled += any(cells[width:])
                        yield row, dict(zip(header, [cell or None for cell in cells[skipped:width]], strict=True))
                    else:
                        self._lengths[len(cells)] += 1
                        bad_rows.add("ragged", row)
                break
            except csv.Error as error:
                row += 1
                self._record_quote(error, row, (line + 1 + before, reader.line_num + before), bad_rows)
                line = reader.line_num
        if self._full_width > width:
            held = (
                f", with what {count(spilled, 'row')} {'holds' if spilled == 1 else 'hold'} in them" if spilled else ""
            )
            columns = count(self._full_width - width, "column")
            bad_rows.notes.append(f"{self.name}: {columns} after {header[-1]!r} without a name: left out{held}")
        if blank_count:
            bad_rows.notes.append(f"{self.name}: {blank_count:,} blank lines skipped; row numbers don't count them")

    def _fits(self, cells: list[str], width: int, repeated: Collection[str] | None) -> bool:
        """Whether a row of another width than the named columns has its values where the names are.

        Args:
            repeated: see `_find_repeated`.
        """
        if not any(cells[width:]):
            return len(cells) > width
        return len(cells) == self._full_width and (repeated is None or cells[width - 1] in repeated)

    def _find_repeated(self, width: int) -> frozenset[str] | None:
        """What stands in the last named column of rows that end there, if it is a few words over and over, as labels.

        Where a comma without quotes has moved the fields of a row, another word stands there. None for other columns.
        """
        found: Counter[str] = Counter()
        with self._open() as file, contextlib.suppress(csv.Error):  # which is said when the rows are read
            reader = csv.reader(file, delimiter=self.find_delimiter().character, strict=True)
            next(reader, None)
            for cells in reader:
                if len(cells) >= width and not any(cells[width:]):
                    found[cells[width - 1]] += 1
                if len(found) > MOST_REPEATED:
                    return None
        return frozenset(found) if 0 < 2 * len(found) <= found.total() else None

    def _read_header(self, reader: Any) -> list[str]:
        try:
            header: list[str] = next(iter(reader), [])
            while header == []:
                header = next(reader)
        except StopIteration:
            raise DataError(
                f"{self.name} holds no header", expected="a first line with the names of the columns"
            ) from None
        except csv.Error as error:
            raise DataError(
                f"{self.name}: the header can't be read",
                found=describe_fault(error),
                expected="the names of the columns, quoted as in any csv file",
            ) from None
        if not all(_is_utf8(name) for name in header):
            found, remedy = explain_bytes(self.path)
            raise DataError(
                f"{self.name}: the header is not UTF-8 text",
                found=found,
                expected="text in UTF-8",
                remedy=remedy,
            )
        self._full_width = len(header)
        while header and not header[-1].strip() and any(map(str.strip, header)):
            header = header[:-1]
        check_header(self.name, header[self._count_unnamed(header) :])
        return header

    def _count_unnamed(self, header: list[str]) -> int:
        """1 where the first column is an index, as pandas writes it: no name, and a whole number in the first row."""
        if len(header) < 2 or header[0].strip() or not all(name.strip() for name in header[1:]):
            return 0
        with self._open() as file:
            rows = (cells for cells in csv.reader(file, delimiter=self.find_delimiter().character) if cells)
            try:
                next(rows, None)
                first = next(rows, [""])[0].strip()
            except csv.Error:  # said when the rows are read
                return 0
        return int(first.isascii() and first.isdigit())

    def _record_quote(self, error: csv.Error, row: int, lines: tuple[int, int], bad_rows: BadRows) -> None:
        """A stray quote within one line spoils that row; one that swallowed lines spoils what comes after."""
        first, last = lines
        where = f"on line {first:,} of the file" if first == last else f"on lines {first:,} to {last:,} of the file"
        if first == last and not str(error).startswith(("unexpected end", "field larger")):
            bad_rows.add("quote", row, f"{where}: {describe_fault(error)}")
            return
        raise DataError(
            f"{self.name}: a quote opened in row {row} is not closed as it should be",
            found=f"{where}: {describe_fault(error)}",
            expected="quotes around the whole field, and each quote inside it written twice",
            remedy=f"look at row {row}, and close the quote or remove it",
        )


def describe_fault(error: csv.Error) -> str:
    """What the csv reader's error means."""
    text = str(error)
    if text.startswith("unexpected end"):
        return "the file ends inside of quotes"
    if text.startswith("field larger"):
        return f"a field of more than {FIELD_CHARACTERS:,} characters"
    if "expected after" in text:
        return "more text after a closing quote"
    if text.startswith("new-line"):
        return "a carriage return that ends no line"
    return "a line that is no csv"


def check_header(source: str, header: list[str]) -> None:
    """DataError for names that are empty or stand twice."""
    problems = []
    empty = [i for i, name in enumerate(header, 1) if not name.strip()]
    if empty:
        problems.append(
            Problem(
                f"{source}: the header has columns without a name",
                f"field {', '.join(map(str, empty[:10]))} is empty",
                "a name for each column",
                "write the names into the first line (pandas: DataFrame.to_csv(..., index=False))",
            )
        )
    twice = sorted(name for name, count in Counter(header).items() if count > 1 and name.strip())
    if twice:
        problems.append(
            Problem(
                f"{source}: the header has names that stand twice",
                ", ".join(map(repr, twice[:10])),
                "each name once",
                "rename one of the columns, or remove it; before a first line that is a row write one with names",
            )
        )
    if problems:
        raise DataError(problems=problems)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
