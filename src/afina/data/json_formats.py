"""Rows from jsonl and json files, read strictly: standard JSON only, one object a row, each key once. A bare list of
messages (role or from in each) is taken for an object that has only these.

A json file is one array of objects; it is parsed object by object from a window of text, so that it needs no
more memory than a jsonl file. A syntax error inside an array ends the reading, since nothing tells where the
next object begins.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from afina.data.bad_rows import FAULTS, BadRows
from afina.data.encoding import check_bytes, explain_bytes, make_encoding_error
from afina.errors import DataError, describe_json_fault

WINDOW_CHARACTERS = 2**20
SPACES = " \t\r\n"
ARRAY_OR_LINES = "one array of objects, or one object a line (then with the suffix .jsonl)"


class JsonRowFaultError(ValueError):
    """A row that is JSON to the letter, or nearly, but can't be taken. `code` names the kind of fault."""

    def __init__(self, code: str, found: str) -> None:
        super().__init__(found)
        self.code = code


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JsonRowFaultError("duplicate", f"key {twice!r}")
    return mapping


def _refuse_constant(name: str) -> NoReturn:
    raise JsonRowFaultError("constant", name)


# NaN and Infinity, which JSON doesn't have and Python writes all the same, are minded where cells are stored.
DECODER = json.JSONDecoder(object_pairs_hook=_build_object)
STRICT_DECODER = json.JSONDecoder(object_pairs_hook=_build_object, parse_constant=_refuse_constant)
"""For texts inside of cells."""


def fault_of(error: Exception) -> JsonRowFaultError:
    """What the error of the parser means for the row."""
    if isinstance(error, JsonRowFaultError):
        return error
    if isinstance(error, RecursionError):
        return JsonRowFaultError("deep", "lists or objects within each other, hundreds of times")
    if isinstance(error, json.JSONDecodeError):
        written = error.doc.rstrip()
        if written and error.pos >= len(written):
            return JsonRowFaultError("json", f"it ends early, after character {len(written):,}")
        return JsonRowFaultError("json", f"{describe_json_fault(error)} at character {error.colno}")
    return JsonRowFaultError("number", "")


def read_object(value: Any) -> dict[str, Any] | None:
    """The row that a JSON value stands for: an object, or a bare list of messages; None for anything else."""
    if isinstance(value, dict):
        return value
    are_messages = isinstance(value, list) and value and all(isinstance(each, dict) for each in value)
    if are_messages and all("role" in each or "from" in each for each in value):
        return {"messages": value}
    return None


class JsonLinesFile:
    """A file with one JSON object a line, or a list of messages."""

    surrogate_fault = "surrogate"
    refuses_nul = False

    def __init__(self, path: Path, note: str = "") -> None:
        self.path, self.name, self.note = path, path.name, note

    def rows(self, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        check_bytes(self.path)
        if self.note:
            bad_rows.notes.append(self.note)
        row, blank_count = 0, 0
        with self.path.open("rb") as file:
            for i, line in enumerate(file):
                if i == 0:
                    line = line.removeprefix(codecs.BOM_UTF8)
                    self._check_first(line)
                if line.isspace() or not line:
                    blank_count += 1
                    continue
                row += 1
                mapping = self._parse(line, row, bad_rows)
                if mapping is not None:
                    yield row, mapping
        if blank_count:
            bad_rows.notes.append(f"{self.name}: {blank_count:,} blank lines skipped; row numbers don't count them")

    def explain(self, bad_rows: BadRows) -> None:
        if "bytes" in bad_rows.rows:
            bad_rows.describe("bytes", *explain_bytes(self.path))

    def _check_first(self, line: bytes) -> None:
        if line.lstrip().startswith(b"[") and self._parse(line, 1, BadRows(self.name)) is None:
            raise DataError(
                f"{self.name} is not JSON lines",
                found="a JSON array",
                expected="one object a line",
                remedy="give the file the suffix .json",
            )

    def _parse(self, line: bytes, row: int, bad_rows: BadRows) -> Mapping[str, Any] | None:
        try:
            value = DECODER.decode(line.decode())
        except UnicodeDecodeError:
            bad_rows.add("bytes", row)
        except (ValueError, RecursionError) as error:
            fault = fault_of(error)
            bad_rows.add(fault.code, row, str(fault))
        else:
            found = read_object(value)
            if found is not None:
                return found
            bad_rows.add("object", row, describe_value(value))
        return None


class JsonArrayFile:
    """A file with one JSON array of objects."""

    surrogate_fault = "surrogate"
    refuses_nul = False

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name

    def rows(self, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        check_bytes(self.path)
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            try:
                yield from self._read(_Window(file), bad_rows)
            except UnicodeDecodeError:
                raise make_encoding_error(self.path) from None

    def explain(self, bad_rows: BadRows) -> None:
        """Nothing to add: bad bytes end the reading of an array."""

    def _read(self, window: _Window, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        if window.next_character() != "[":
            self._refuse(0, f"it begins with {window.rest(20)!r}", ARRAY_OR_LINES)
        window.position += 1
        row = 0
        if window.next_character() == "]":
            window.position += 1
        else:
            while True:
                row += 1
                try:
                    value = window.parse()
                    found = read_object(value)
                    if found is not None:
                        yield row, found
                    else:
                        bad_rows.add("object", row, describe_value(value))
                except UnicodeDecodeError:
                    raise
                except (ValueError, RecursionError) as error:
                    fault = fault_of(error)
                    self._refuse(row, str(fault), FAULTS[fault.code].expected)
                separator = window.next_character()
                window.position += 1
                if separator == "]":
                    break
                if separator != ",":
                    what = f"{separator!r} after it" if separator else "the end of the file"
                    self._refuse(row, what, "a comma before the next object, or ] at the end")
        if window.next_character():
            self._refuse(row, f"{window.rest(20)!r} after the array", "nothing after the array")

    def _refuse(self, row: int, found: str, expected: str) -> NoReturn:
        where = f" at row {row:,}" if row else ""
        raise DataError(
            f"{self.name} is not an array of JSON objects{where}",
            found=found,
            expected=expected,
            remedy="mend the file there; nothing after that place can be read",
        )


class _Window:
    """The part of a text file that is being parsed; it grows until a value fits and moves on after it."""

    def __init__(self, file: Any) -> None:
        self.file, self.text, self.position = file, "", 0
        self.is_complete = False

    def next_character(self) -> str:
        """The next character that is not white space, which `position` then points at; "" at the end."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in SPACES:
                self.position += 1
            if self.position < len(self.text) or self.is_complete:
                return self.text[self.position : self.position + 1]
            self._grow()

    def parse(self) -> Any:
        """The value at the next character. ValueError or RecursionError when there is none."""
        self.next_character()
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.position)
            except (ValueError, RecursionError) as error:
                # A JsonRowFaultError is about what was parsed already: more text would not mend it.
                if self.is_complete or isinstance(error, (JsonRowFaultError, RecursionError)):
                    raise _relative(error, self.position) from None
            else:
                # A number that touches the edge may go on after it.
                if end < len(self.text) or self.is_complete:
                    self.position = end
                    return value
            self._grow()

    def rest(self, length: int) -> str:
        return self.text[self.position : self.position + length]

    def _grow(self) -> None:
        kept = self.text[self.position :]
        read = self.file.read(max(WINDOW_CHARACTERS, len(kept)))
        self.is_complete = not read
        self.text, self.position = kept + read, 0


def _relative(error: Exception, start: int) -> Exception:
    """The error with a position counted from the beginning of the row."""
    if isinstance(error, json.JSONDecodeError):
        return json.JSONDecodeError(error.msg, error.doc[start:], error.pos - start)
    return error


def describe_value(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def open_json(path: Path) -> JsonArrayFile | JsonLinesFile:
    """The reader of a .json file. JSON lines under that name are read too, with a note."""
    with path.open("rb") as file:
        line = file.readline(WINDOW_CHARACTERS)
        goes_on = line.endswith(b"\n") and any(map(bytes.strip, iter(lambda: file.readline(WINDOW_CHARACTERS), b"")))
    first = line.removeprefix(codecs.BOM_UTF8).strip()
    if first.startswith(b"{") and first.endswith(b"}"):
        return JsonLinesFile(path, f"{path.name}: read as JSON lines, since it holds one object a line")
    if first.startswith(b"[{") and first.endswith(b"}]") and goes_on:
        return JsonLinesFile(path, f"{path.name}: read as JSON lines, since it holds a list of messages a line")
    return JsonArrayFile(path)
