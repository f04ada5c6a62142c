"""From tables of words and tags to the parts that train, choose and test.

Bad rows are counted by reason as in `usable_rows.py`. Tags of the first part are the ones that are learned.
Letters: N rows.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from afina.config.run import DataConfig
from afina.data import tags as reasons
from afina.data.bad_rows import MEND, RowNumbers
from afina.data.columns import ColumnChoice
from afina.data.data_notes import note_absent, note_dropped, note_parts, note_unread
from afina.data.examples import Examples, Part
from afina.data.labels import LabelSpace, sort_names
from afina.data.parts import (
    carve_parts,
    check_filled,
    check_fractions,
    count_rows,
    describe_source,
    explain_choice,
    hash_rows,
    list_problems,
)
from afina.data.rows import RowTable
from afina.data.split import Ints, find_rarest_labels, hash_texts
from afina.data.tagged_columns import FORMS, choose_tagged_columns
from afina.data.tags import SpanFaultError, TagArrays, TaggedRow, are_entity_tags, join_offsets, read_row
from afina.data.usable_rows import UsableRows
from afina.errors import DataError, Problem
from afina.wording import count

TAGS_MOST = 1000
TAGS_SHOWN = 20
SPAN_FORM = 'a list such as [{"start": 0, "end": 3, "label": "PER"}], in characters of the text'
EXPECTED = {
    reasons.NO_WORDS: 'a list of words such as ["Ana", "laughs"], or a text',
    reasons.NOT_WORDS: 'a list of words such as ["Ana", "laughs"], or a text',
    reasons.NO_TAGS: "a tag for each word, or a list of entities in the text",
    reasons.NOT_TAGS: 'a list of tags such as ["B-PER", "O"]',
    reasons.EMPTY_TAG: "the name of a tag, such as O, for each word",
    reasons.OTHER_LENGTH: "as many tags as words",
    reasons.UNKNOWN_TAG: "tags that stand in the training part too: {names}",
    reasons.NOT_SPANS: f"{SPAN_FORM}; beside a list of tags, a list of words instead of a text",
    reasons.SPAN_BEFORE: f"{SPAN_FORM}, the start counted from 0",
    reasons.SPAN_BACKWARDS: f"{SPAN_FORM}, the end after the last character",
    reasons.SPAN_OUTSIDE: f"{SPAN_FORM}, the end after the last character",
    reasons.SPAN_EMPTY: "entities with a word in them",
    reasons.SPANS_OVERLAP: "entities apart from each other: a word has one tag",
}
OF_WORDS = (reasons.NO_WORDS, reasons.NOT_WORDS)
CHARACTERS_SHOWN = 60


@dataclass(slots=True)
class UsableTags(UsableRows):
    """Rows whose words all have a tag; `labels` are hashes of a row's tags, equal for equal ones (N,)."""

    tags: TagArrays = field(default_factory=lambda: TagArrays(np.empty(0, np.int32), np.zeros(1, np.int64)))
    widened: RowNumbers = field(default_factory=RowNumbers)
    """Rows with an entity that cut a word."""

    def problems(self, table: RowTable, choice: ColumnChoice, space: LabelSpace) -> list[Problem]:
        listed, known = [], ", ".join(space.names[:TAGS_SHOWN])
        for reason, faulty in self.faults.items():
            name = choice.text if reason in OF_WORDS else choice.label
            where, expected = f"{table.source}: rows with {reason} in {name!r}", EXPECTED[reason]
            if rows := table.leave_out_told(faulty, [name]):
                listed.append(Problem(where, self.found[reason], expected.replace("{names}", known), MEND, rows))
        return listed


@dataclass(frozen=True)
class TaggedPart(Part):
    """A part whose rows are words with a tag each. `labels` are hashes of the tags of each row."""

    tags: TagArrays
    label_name: str

    def tagged_rows(self, batch_size: int = 1000) -> Iterator[list[TaggedRow]]:
        """Batches of rows as they were read."""
        names = (self.text_names[0], self.label_name)
        for start in range(0, len(self.indices), batch_size):
            columns = self.table.take(self.indices[start : start + batch_size], names)
            yield [read_row(*cells) for cells in zip(*(columns[name] for name in names), strict=True)]

    def words(self, batch_size: int = 1000) -> Iterator[list[list[str]]]:
        """Batches of lists of words."""
        for rows in self.tagged_rows(batch_size):
            yield [row.words for row in rows]

    def texts(self, batch_size: int = 1000) -> Iterator[list[str] | list[tuple[str, str]]]:
        """Batches of texts, of words with a space between them."""
        for rows in self.words(batch_size):
            yield [" ".join(words) for words in rows]


def load_tagged(source: Any, config: DataConfig, seed: int, tables: Mapping[str, RowTable]) -> Examples:
    """Examples whose parts are `TaggedPart`s, from the tables that `read_parts` made of `source`.

    Raises:
        DataError: with all that is wrong at once.
    """
    check_fractions(config)
    tables = dict(tables)
    is_strict = config.on_bad_rows == "fail"
    choice = explain_choice(tables, lambda: choose_tagged_columns(tables, config), names_unread=is_strict)
    space, usable = find_usable_tags(tables, choice)
    problems = list_problems(tables, [choice.text, choice.label])
    problems += [problem for name, rows in usable.items() for problem in rows.problems(tables[name], choice, space)]
    if is_strict and problems:
        raise DataError(problems=problems)
    check_tags(next(iter(tables.values())), choice, space, count_faulty(next(iter(usable.values()))))
    for name, rows in usable.items():
        if not len(rows.indices):
            raise DataError(f"{tables[name].source}: no row can be used", problems=problems)
    parts = split_tagged(tables, usable, choice, len(space.names), config, seed)
    counts = count_rows(tables, usable)
    notes = [note for table in tables.values() for note in table.notes] + note_dropped(counts)
    notes += [*note_unread(tables, {choice.text, choice.label}), *note_widened(usable)]
    learned = set(np.unique(parts["train"].tags.tags).tolist())
    notes += note_absent({"train": {name: int(i in learned) for i, name in enumerate(space.names)}})
    notes.append(note_parts({name: len(part) for name, part in parts.items()}, tables, seed, space.kind))
    return Examples(
        dict(parts), choice, space, choice.reasons, tuple(notes), counts, describe_source(source),
        hash_rows(usable), {name: {} for name in parts},
    )  # fmt: skip


def find_usable_tags(tables: Mapping[str, RowTable], choice: ColumnChoice) -> tuple[LabelSpace, dict[str, UsableTags]]:
    """The tags of the first part, and the usable rows of each."""
    first = next(iter(tables.values()))
    names = sort_names(list(count_tags(first, choice)))
    space = LabelSpace("entities" if are_entity_tags(names) else "tags", names)
    return space, {name: scan_table(table, choice, space) for name, table in tables.items()}


def count_tags(table: RowTable, choice: ColumnChoice) -> Counter[str]:
    """How many words have each tag, in the rows that can be used."""
    counts: Counter[str] = Counter()
    for cells in table.columns(choice.text, choice.label):
        for pair in zip(*cells, strict=True):
            try:
                counts.update(read_row(*pair).tags)
            except ValueError:
                continue
    return counts


def scan_table(table: RowTable, choice: ColumnChoice, space: LabelSpace) -> UsableTags:
    """The usable rows of a table, in one pass."""
    scan = _Scan(table, choice, {name: number for number, name in enumerate(space.names)})
    hashes_N = hash_texts(scan.texts())
    tags = TagArrays(np.frombuffer(scan.tags, np.int32).copy(), join_offsets(scan.lengths))
    return UsableTags(
        np.asarray(scan.indices, np.int64), np.asarray(scan.labels, np.int64), hashes_N, scan.digest.hexdigest(),
        scan.faults, scan.found, tags, scan.widened,
    )  # fmt: skip


class _Scan:
    """One pass over a table: yields the texts of usable rows and gathers all else about them."""

    def __init__(self, table: RowTable, choice: ColumnChoice, numbers: Mapping[str, int]) -> None:
        self.table, self.choice, self.numbers = table, choice, numbers
        self.indices, self.labels, self.lengths, self.tags = array("q"), array("q"), array("q"), array("i")
        self.digest = hashlib.sha256()
        self.faults: dict[str, RowNumbers] = {}
        self.found: dict[str, str] = {}
        self.widened = RowNumbers()

    def texts(self) -> Iterator[tuple[str, ...]]:
        place = -1
        for cells in self.table.columns(self.choice.text, self.choice.label):
            for pair in zip(*cells, strict=True):
                place += 1
                try:
                    row = read_row(*pair)
                    numbers = self._number(row)
                except ValueError as error:
                    self._add_fault(error, place, *pair)
                    continue
                self._keep(place, row, numbers)
                yield (" ".join(row.words),)

    def _number(self, row: TaggedRow) -> array[int]:
        try:
            return array("i", [self.numbers[tag] for tag in row.tags])
        except KeyError:
            raise ValueError(reasons.UNKNOWN_TAG) from None

    def _keep(self, place: int, row: TaggedRow, numbers: array[int]) -> None:
        self.indices.append(place)
        self.lengths.append(len(numbers))
        self.tags.extend(numbers)
        joined = json.dumps(row.tags, ensure_ascii=False).encode()
        self.labels.append(int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "little", signed=True))
        self.digest.update(json.dumps([row.words, row.tags], ensure_ascii=False).encode() + b"\n")
        if row.widened:
            self.widened.add(int(self.table.row_numbers[place]))

    def _add_fault(self, error: ValueError, place: int, words: Any, tags: Any) -> None:
        reason = str(error)
        if reason not in self.faults:
            self.faults[reason] = RowNumbers()
            span = error.span if isinstance(error, SpanFaultError) else None
            self.found[reason] = show_cell(span) if span is not None else self._show(reason, words, tags)
        self.faults[reason].add(int(self.table.row_numbers[place]))

    def _show(self, reason: str, words: Any, tags: Any) -> str:
        """What an error shows of the first such row."""
        if reason == reasons.OTHER_LENGTH:
            lengths = [len(each) for each in map(reasons.parse_json, (words, tags))]
            return f"{count(lengths[0], 'word')} and {count(lengths[1], 'tag')}"
        if reason == reasons.UNKNOWN_TAG:
            unknown = next(tag for tag in read_row(words, tags).tags if tag not in self.numbers)
            return repr(unknown)[:CHARACTERS_SHOWN]
        return show_cell(words if reason in OF_WORDS else tags)


def show_cell(cell: Any) -> str:
    """The beginning of a cell, or of an entity in one, as it is written."""
    return "an empty cell" if cell is None else json.dumps(cell, ensure_ascii=False)[:CHARACTERS_SHOWN]


def count_faulty(rows: UsableTags) -> int:
    """How many rows can't be used."""
    return sum(map(len, rows.faults.values()))


def check_tags(table: RowTable, choice: ColumnChoice, space: LabelSpace, faulty: int) -> None:
    """Refuse data in which there is nothing to tell apart, or whose tags are no tags.

    Args:
        faulty: rows that can't be used.
    """
    where = f"{table.source}: the tags in {choice.label!r}"
    if not space.names:
        raise DataError(f"{where} can't be read in any row", expected=FORMS, remedy="--label-column NAME")
    if len(space.names) == 1:
        left = f" in the rows that are left: {count(faulty, 'row')} can't be used" if faulty else ""
        otherwise = "mend the rows that can't be used" if faulty else "--label-column NAME for another column"
        raise DataError(
            f"{where} are all the same", found=f"{space.names[0]!r}{left}", expected="two tags or more",
            remedy=f"{otherwise}, or add rows with other tags",
        )  # fmt: skip
    if len(space.names) > TAGS_MOST:
        raise DataError(
            f"{where} are too many to be names of tags", found=f"{len(space.names):,} different ones",
            expected=f"at most {TAGS_MOST:,}", remedy="--label-column NAME for another column",
        )  # fmt: skip


def note_widened(usable: Mapping[str, UsableTags]) -> list[str]:
    """Which rows had an entity that begins or ends inside a word."""
    notes = []
    for part, rows in usable.items():
        if len(rows.widened):
            shown = ", ".join(map(str, list(rows.widened)[:TAGS_SHOWN]))
            more = ", ..." if len(rows.widened) > TAGS_SHOWN else ""
            cut = count(len(rows.widened), "row")
            notes.append(f"{part}: {cut} with an entity that cut a word, widened to the whole word: rows {shown}{more}")
    return notes


def split_tagged(
    tables: Mapping[str, RowTable], usable: Mapping[str, UsableTags], choice: ColumnChoice, tags: int,
    config: DataConfig, seed: int,
) -> dict[str, TaggedPart]:  # fmt: skip
    """The three parts: those of the source, and those carved out of its first."""
    marks_NC = mark_tags(usable[next(iter(tables))].tags, tags)
    parts = carve_parts(
        tables, usable, find_rarest_labels(marks_NC), config, seed,
        lambda name, table, rows, picks_N: make_tagged_part(name, table, choice, rows, picks_N),
    )  # fmt: skip
    check_filled(parts, tables[next(iter(tables))].source, "tag")
    return parts


def mark_tags(tags: TagArrays, width: int) -> Any:
    """Which tags each row has, as 0 and 1 (N, C)."""
    marks_NC = np.zeros((len(tags), width), np.uint8)
    marks_NC[np.repeat(np.arange(len(tags)), np.diff(tags.offsets)), tags.tags] = 1
    return marks_NC


def make_tagged_part(
    name: str, table: RowTable, choice: ColumnChoice, rows: UsableTags, picks_N: Ints | None = None
) -> TaggedPart:
    """The part that holds the usable rows of a table, or those at `picks_N` among them."""
    picks_N = np.arange(len(rows.indices)) if picks_N is None else picks_N
    return TaggedPart(
        name, table, choice.text_names, rows.indices[picks_N], rows.labels[picks_N], rows.hashes[picks_N],
        rows.tags.take(picks_N), choice.label,
    )  # fmt: skip
