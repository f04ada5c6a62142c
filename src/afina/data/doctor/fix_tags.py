"""How a cleaned copy treats rows of tagged words: every word keeps its tag, and every entity its place in the text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from afina.data.columns import ColumnChoice
from afina.data.doctor.characters import clean_text
from afina.data.doctor.classes import group_variants
from afina.data.doctor.fix import EMPTY, LABELS, TEXTS, Row, hash_text
from afina.data.rows import RowTable
from afina.data.split import normalize_text
from afina.data.tagged_rows import count_tags
from afina.data.tags import NO_TAGS, NO_WORDS, OUTSIDE, are_entity_tags, parse_json, read_row, read_spans

Changed = dict[str, tuple[str, Any]]


@dataclass
class TaggedCleaner:
    """Rows of words with a tag each, or of a text with entities in it.

    A row that can't be read is left alone, as is a text whose characters can't be mended without moving the border of
    an entity into one.
    """

    choice: ColumnChoice
    spellings: Mapping[str, str]
    """Tags, and types of entities in texts, that become another one."""
    drops_conflicts: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        return self.choice.text, self.choice.label

    def clean(self, row: Row) -> Changed:
        text, tags = row.get(self.choice.text), row.get(self.choice.label)
        try:
            read_row(text, tags)
        except ValueError:
            return {}
        words, cleaned = parse_json(text), Changed()
        if isinstance(words, list):
            cleaned[self.choice.text] = TEXTS, clean_words(words)
            cleaned[self.choice.label] = LABELS, [self.spellings.get(str(tag), tag) for tag in parse_json(tags)]
        else:
            mended, places = mend_text(words, parse_json(tags))
            cleaned[self.choice.text] = TEXTS, mended
            rule = LABELS if mended == words else TEXTS
            cleaned[self.choice.label] = rule, [self.write_span(span, places) for span in parse_json(tags)]
        return {
            name: (rule, write_as(row[name], value))
            for name, (rule, value) in cleaned.items() if value != parse_json(row[name])
        }  # fmt: skip

    def write_span(self, span: Any, places: Mapping[int, int]) -> Any:
        """An entity, in the form that it has, where it stands now."""
        ((start, end, label),) = read_spans([span])
        moved = {"start": places[start], "end": places[end], "label": self.spellings.get(label, label)}
        return {**span, **moved} if isinstance(span, dict) else list(moved.values())

    def judge(self, row: Row) -> tuple[int, int, float] | str | None:
        try:
            found = read_row(row.get(self.choice.text), row.get(self.choice.label))
        except ValueError as error:
            return EMPTY if str(error) in (NO_WORDS, NO_TAGS) else None
        return hash_text(normalize_text(" ".join(found.words))), hash_text(json.dumps(found.tags)), 0.0


def clean_words(words: Sequence[str]) -> list[str]:
    """The words cleaned; one of which nothing would be left stays, so that no tag loses its word."""
    return [clean_text(word) or word for word in words]


def mend_text(text: str, spans: Any) -> tuple[str, dict[int, int]]:
    """The text cleaned, and where each border of an entity stands in it: piece by piece between the borders."""
    found = read_spans(spans)
    borders = sorted({0, len(text), *(place for start, end, _ in found for place in (start, end))})
    pieces = [clean_text(text[start:end]) for start, end in pairwise(borders)]
    places = dict(zip(borders, accumulate(map(len, pieces), initial=0), strict=True))
    is_whole = "".join(pieces) == clean_text(text) and all(places[start] < places[end] for start, end, _ in found)
    return ("".join(pieces), places) if is_whole else (text, {border: border for border in borders})


def write_as(cell: Any, value: Any) -> Any:
    """The value in the form of the cell: a list that stands there as text is text again."""
    return json.dumps(value, ensure_ascii=False) if isinstance(cell, str) and not isinstance(value, str) else value


def find_tag_spellings(tables: Mapping[str, RowTable], choice: ColumnChoice) -> dict[str, str]:
    """Tags over all parts whose type has another, commoner spelling, and what becomes of them; the types alone too."""
    counts: Counter[str] = Counter()
    for table in tables.values():
        counts.update(count_tags(table, choice))
    if not are_entity_tags(list(counts)):
        return group_variants(counts)
    types: Counter[str] = Counter()
    for tag, words in counts.items():
        if tag != OUTSIDE:
            types[split_tag(tag)[1]] += words
    variants = group_variants(types)
    parts = {tag: split_tag(tag) for tag in counts}
    return variants | {tag: prefix + variants[name] for tag, (prefix, name) in parts.items() if name in variants}


def split_tag(tag: str) -> tuple[str, str]:
    """The prefix with its hyphen, and the type: `B-` and `PER`; `O` has neither."""
    prefix, hyphen, name = tag.partition("-")
    return prefix + hyphen, name
