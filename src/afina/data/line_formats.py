"""Rows from text files without columns: plain texts, and words with a tag each, one a line.

A plain text file holds texts with blank lines between them or, where it has few or none, one text a line. A file of
words and tags is what CoNLL's shared tasks have handed round since 2000: a blank line ends a sentence, the word stands
first on its line and the tag last, with tabs or spaces between.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from afina.data.bad_rows import BadRows
from afina.data.encoding import check_bytes, explain_bytes
from afina.data.text_formats import FIELD_CHARACTERS
from afina.errors import DataError
from afina.wording import count

SNIFFED_CHARACTERS = 2**16
LINES_LEAST = 2
# Paragraphs and poems have fewer lines; a list of thousands of texts may have a blank line too many.
LINES_A_BLOCK = 100
TAG = re.compile(r"O|[BIESLUM]-\S+")
DOCUMENT = "-DOCSTART-"
# What CoNLL-U writes above a sentence.
ABOUT = re.compile(r"# (\S+ = |newdoc|newpar)")


def open_lines(path: Path) -> TextIO:
    """The file as text, whose bytes that are no UTF-8 become lone surrogates, as in `text_formats.py`."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape")


class LinesFile(ABC):
    """A text file that is read line by line, strictly in UTF-8."""

    surrogate_fault = "bytes"
    refuses_nul = True

    def __init__(self, path: Path, note: str = "") -> None:
        self.path, self.name, self.note = path, path.name, note

    @abstractmethod
    def rows(self, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """See `Source`."""

    def explain(self, bad_rows: BadRows) -> None:
        if "bytes" in bad_rows.rows:
            bad_rows.describe("bytes", *explain_bytes(self.path))

    def blocks(self) -> Iterator[list[str]]:
        """Lines between blank lines, without their ends.

        Raises:
            DataError: for a block that no memory should be filled with.
        """
        check_bytes(self.path)
        block, size = [], 0
        with open_lines(self.path) as file:
            while line := file.readline(FIELD_CHARACTERS):
                size += len(line)
                refuse_long(self.name, size, "a blank line")
                if line.strip():
                    block.append(line.rstrip("\n"))
                    continue
                if block:
                    yield block
                block, size = [], 0
        if block:
            yield block


def refuse_long(name: str, characters: int, end: str) -> None:
    """Refuse a text that no memory should be filled with.

    Raises:
        DataError: from `FIELD_CHARACTERS` on.
    """
    if characters >= FIELD_CHARACTERS:
        raise DataError(
            f"{name}: a text of {FIELD_CHARACTERS:,} characters or more without {end}",
            expected="blank lines between texts", remedy="put blank lines between its parts",
        )  # fmt: skip


class TextFile(LinesFile):
    """A file of plain texts: rows with a column `text`."""

    def rows(self, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        lines, blanks = self.counts
        few = f"only {count(blanks, 'blank line')} in {lines:,}" if blanks else "no line is blank"
        unit = "the text between two blank lines" if self.has_blocks else f"a line, since {few}"
        bad_rows.notes.append(f"{self.name}: a row is {unit}")
        row = 0
        for block in self.blocks():
            for text in ["\n".join(block)] if self.has_blocks else block:
                row += 1
                yield row, {"text": text}

    @property
    def has_blocks(self) -> bool:
        """Whether blank lines part the texts. Where they are few, they stand there by chance."""
        lines, blanks = self.counts
        return blanks > 0 and lines <= LINES_A_BLOCK * (blanks + 1)

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Lines that hold text, and the stretches of blank lines between them; long lines are read in pieces."""
        lines, blanks, was_blank, begins = 0, 0, False, True
        with open_lines(self.path) as file:
            while piece := file.readline(SNIFFED_CHARACTERS):
                if begins:
                    is_blank = piece.isspace()
                    blanks += was_blank and not is_blank
                    lines += not is_blank
                    was_blank = is_blank and lines > 0
                begins = piece.endswith("\n")
        return lines, blanks

    def blocks(self) -> Iterator[list[str]]:
        if self.has_blocks:
            yield from super().blocks()
            return
        check_bytes(self.path)
        with open_lines(self.path) as file:
            while line := file.readline(FIELD_CHARACTERS):
                refuse_long(self.name, len(line), "an end of its line")
                if line.strip():
                    yield [line.rstrip("\n")]


class TaggedLinesFile(LinesFile):
    """A file of words and tags: rows with the columns `tokens` and `tags`, and one for each column of words between."""

    def rows(self, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        if self.note:
            bad_rows.notes.append(self.note)
        row, width = 0, 0
        for block in self.blocks():
            lines = [split_fields(line) for line in drop_comments(block)]
            if not lines:
                continue
            row += 1
            width = width or len(lines[0])
            odd = next((line for line in lines if len(line) != width or width < 2), None)
            if odd is not None:
                bad_rows.add("tagged line", row, " ".join(odd)[:80])
                continue
            columns = list(map(list, zip(*lines, strict=True)))
            between = {f"column {number}": column for number, column in enumerate(columns[1:-1], 2)}
            yield row, {"tokens": columns[0], **between, "tags": columns[-1]}


def drop_comments(lines: Sequence[str]) -> list[str]:
    """The lines that hold a word with its tag, which may be `#` itself, and not something about the sentence."""
    words = [line for line in lines if not line.startswith(DOCUMENT)]
    usual = next((line for line in words if not line.startswith("# ")), "")
    return [line for line in words if not is_comment(line, usual)]


def is_comment(line: str, usual: str) -> bool:
    """Whether a line is about a sentence, as `# text = ...` is.

    Args:
        usual: a line of the same sentence that is none; "" where there is no such line.
    """
    if not line.startswith("# ") or TAG.fullmatch(split_fields(line)[-1]):
        return False
    is_like_others = "\t" not in usual and len(split_fields(line)) == len(split_fields(usual))
    return bool(ABOUT.match(line)) or not is_like_others


def split_fields(line: str) -> list[str]:
    """What stands between tabs, or where there are none between spaces."""
    return line.split("\t") if "\t" in line else line.split()


def holds_tagged_lines(path: Path) -> bool:
    """Whether a text file holds words with a tag each, as far as its beginning tells."""
    with open_lines(path) as file:
        lines = file.read(SNIFFED_CHARACTERS).splitlines()
    lines = lines if len(lines) <= LINES_LEAST else lines[:-1]  # which may be cut off
    fields = [split_fields(line) for line in drop_comments(lines) if line.strip()]
    widths = {len(each) for each in fields}
    return (
        len(fields) >= LINES_LEAST
        and len(widths) == 1
        and widths != {1}
        and all(TAG.fullmatch(each[-1]) for each in fields)
    )


def open_text(path: Path) -> TextFile | TaggedLinesFile:
    """The reader of a .txt file, by what it holds."""
    check_bytes(path)
    if holds_tagged_lines(path):
        return TaggedLinesFile(path, f"{path.name}: read as words with a tag each, one a line")
    return TextFile(path)


class TextFolder:
    """Files of plain text, each of which is a row."""

    surrogate_fault = "bytes"
    refuses_nul = True

    def __init__(self, paths: list[Path]) -> None:
        self.paths, self.name = paths, f"{paths[0].parent.name}/"

    def rows(self, bad_rows: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
        bad_rows.notes.append(
            f"{self.name}: each of its {len(self.paths):,} files is a row, in the order of their names"
        )
        for row, path in enumerate(self.paths, 1):
            with open_lines(path) as file:
                text = file.read(FIELD_CHARACTERS + 1)
            if len(text) > FIELD_CHARACTERS:
                raise DataError(
                    f"{path.name} holds more than {FIELD_CHARACTERS:,} characters", expected="a text of a row",
                    remedy="name the file itself, whose blank lines part its texts",
                )  # fmt: skip
            yield row, {"text": text.rstrip("\r\n")}

    def explain(self, bad_rows: BadRows) -> None:
        if "bytes" in bad_rows.rows:
            path = self.paths[bad_rows.rows["bytes"][0] - 1]
            found, remedy = explain_bytes(path)
            bad_rows.describe("bytes", f"{path.name}: {found}", remedy)
