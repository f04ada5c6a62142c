"""Tags of words: flat arrays for all rows, and the words and tags of one row as the user wrote them.

Letters: N rows, K words of all rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Span = tuple[int, int]

ENTITY_TAG = re.compile(r"O|[BIESLU]-.+", re.DOTALL)
OUTSIDE = "O"
# Scripts that put no spaces between words: each character is a word of its own there.
_ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Marks that belong to the letter before, but that `\w` doesn't take: accents apart, vowels of Indic and Arabic scripts.
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0903\u093a-\u0963"
)
_MARKS += (
    "\u0981-\u0983\u09bc-\u09d7\u0a01-\u0a03\u0a3c-\u0a51\u0a81-\u0a83\u0abc-\u0acd\u0b82\u0bbe-\u0bcd\u0c00-\u0c04"
)
_MARKS += "\u0c3c-\u0c56\u0c81-\u0c83\u0cbc-\u0cd6\u0d00-\u0d03\u0d3b-\u0d4d\u200c\u200d"
WORD = re.compile(rf"[{_ALONE}]|(?:[^\W{_ALONE}]|[{_MARKS}])+|[^\w\s]")

NO_WORDS = "no words"
NOT_WORDS = "words that are no list of texts"
NO_TAGS = "no tags"
NOT_TAGS = "tags that are no list of names or whole numbers"
EMPTY_TAG = "a tag that is empty"
OTHER_LENGTH = "more words than tags, or fewer"
UNKNOWN_TAG = "a tag that the training part doesn't have"
NOT_SPANS = "entities that are no list of start, end and label"
SPAN_BEFORE = "an entity that starts before its text"
SPAN_OUTSIDE = "an entity that ends outside its text"
SPAN_BACKWARDS = "an entity that doesn't end after its start"
SPAN_EMPTY = "an entity that holds no word"
SPANS_OVERLAP = "entities that share a word"


class SpanFaultError(ValueError):
    """An entity that can't be used, beside the reason."""

    def __init__(self, reason: str, span: Any) -> None:
        super().__init__(reason)
        self.span = span


@dataclass(frozen=True)
class TagArrays:
    """The tags of the words of N rows, one row after the other."""

    tags: npt.NDArray[np.int32]
    """Numbers of tags (K,)."""
    offsets: Ints
    """Where row i begins; N + 1 numbers, the last one is the end."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, index: int) -> npt.NDArray[np.int32]:
        """The tags of one row."""
        return self.tags[self.offsets[index] : self.offsets[index + 1]]

    def list_places(self, rows: Ints) -> Ints:
        """The places of the words of some rows, in the order of `rows`."""
        spans = [np.arange(self.offsets[row], self.offsets[row + 1]) for row in rows]
        return np.concatenate([np.empty(0, np.int64), *spans]).astype(np.int64)

    def take(self, rows: Ints) -> TagArrays:
        """Some of the rows."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        return TagArrays(self.tags[self.list_places(rows)], join_offsets(lengths))


def join_offsets(lengths: Sequence[int] | Ints) -> Ints:
    """Where each of some pieces begins, and the end."""
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int64)


@dataclass(frozen=True, slots=True)
class TaggedRow:
    """The words and tags of one row."""

    words: list[str]
    tags: list[str]
    widened: bool = False
    """Whether an entity cut a word, and was widened to the whole of it."""


def read_words(cell: Any) -> tuple[list[str], list[Span] | None]:
    """The words of a cell; of a text also where each of them stands in it.

    Raises:
        ValueError: with one of this module's reasons if there are none.
    """
    cell = parse_json(cell)
    if cell is None or cell == [] or (isinstance(cell, str) and not cell.strip()):
        raise ValueError(NO_WORDS)
    if isinstance(cell, str):
        found = list(WORD.finditer(cell))
        if not found:
            raise ValueError(NO_WORDS)
        return [match[0] for match in found], [match.span() for match in found]
    if not isinstance(cell, list) or not all(isinstance(word, str) for word in cell):
        raise ValueError(NOT_WORDS)
    return cell, None


def read_row(words_cell: Any, tags_cell: Any) -> TaggedRow:
    """The words and tags of a row: lists of both, or a text and the entities in it.

    Raises:
        ValueError: with one of this module's reasons if they can't be used.
    """
    words, places = read_words(words_cell)
    tags_cell = parse_json(tags_cell)
    if tags_cell is None or tags_cell == "":
        raise ValueError(NO_TAGS)
    if places is not None:
        return tag_spans(words, places, str(words_cell), tags_cell)
    tags = read_tags(tags_cell)
    if len(tags) != len(words):
        raise ValueError(OTHER_LENGTH)
    return TaggedRow(words, tags)


def read_tags(cell: Any) -> list[str]:
    """The names of the tags in a list of names or whole numbers."""
    if not isinstance(cell, list):
        raise ValueError(NOT_TAGS)
    for tag in cell:
        if tag is None or (isinstance(tag, str) and not tag.strip()):
            raise ValueError(EMPTY_TAG)
        if isinstance(tag, bool) or not isinstance(tag, str | int):
            raise ValueError(NOT_TAGS)
    return [str(tag) for tag in cell]


def tag_spans(words: list[str], places: list[Span], text: str, cell: Any) -> TaggedRow:
    """BIO tags of the words of a text with entities in it; one that cuts a word is widened to the whole of it."""
    tags, widened = [OUTSIDE] * len(words), False
    for start, end, label in read_spans(cell):
        check_bounds(start, end, label, len(text))
        inside = [place for place, (first, last) in enumerate(places) if first < end and last > start]
        if not inside:
            raise SpanFaultError(SPAN_EMPTY, [start, end, label])
        if any(tags[place] != OUTSIDE for place in inside):
            raise SpanFaultError(SPANS_OVERLAP, [start, end, label])
        widened |= places[inside[0]][0] < start or places[inside[-1]][1] > end
        for place in inside:
            tags[place] = f"{'B' if place == inside[0] else 'I'}-{label}"
    return TaggedRow(words, tags, widened)


def check_bounds(start: int, end: int, label: str, characters: int) -> None:
    """Refuse an entity that doesn't lie within a text of so many characters."""
    faults = {SPAN_BEFORE: start < 0, SPAN_BACKWARDS: end <= start, SPAN_OUTSIDE: end > characters}
    for reason, is_so in faults.items():
        if is_so:
            raise SpanFaultError(reason, [start, end, label])


def read_spans(cell: Any) -> list[tuple[int, int, str]]:
    """Start, end and label of each entity, written as a mapping or as a list of the three."""
    if not isinstance(cell, list):
        raise ValueError(NOT_SPANS)
    found = []
    for each in cell:
        parts = [each.get(name) for name in ("start", "end", "label")] if isinstance(each, dict) else each
        if not isinstance(parts, list) or len(parts) != 3 or not is_span(*parts):
            raise SpanFaultError(NOT_SPANS, each)
        found.append((parts[0], parts[1], parts[2]))
    return found


def is_span(start: Any, end: Any, label: Any) -> bool:
    """Whether these are two whole numbers and a name."""
    are_numbers = all(isinstance(each, int) and not isinstance(each, bool) for each in (start, end))
    return are_numbers and isinstance(label, str) and bool(label.strip())


def parse_json(cell: Any) -> Any:
    """A list that stands in a cell as text, as csv has to write it; anything else as it is."""
    if isinstance(cell, str) and cell.lstrip().startswith("[") and cell.rstrip().endswith("]"):
        try:
            found = json.loads(cell)
        except (ValueError, RecursionError):
            return cell
        return found if isinstance(found, list) else cell
    return cell


def are_entity_tags(names: Sequence[str]) -> bool:
    """Whether all tags are O or begin with a prefix such as `B-`, and some do: then they name entities."""
    return all(ENTITY_TAG.fullmatch(name) for name in names) and any(name != OUTSIDE for name in names)
