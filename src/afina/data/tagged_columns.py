"""Which columns hold words and their tags, or a text and the entities in it.

Names decide, then contents: half of the rows that are looked at, and have labels, must hold lists of the right kind.
What the user names wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from afina.config.reason import Reason
from afina.config.run import TAGGING, DataConfig
from afina.data.column_names import normalize_name
from afina.data.column_profile import profile_columns
from afina.data.columns import ColumnChoice, check_apart, check_columns, check_parts, list_flags
from afina.data.rows import RowTable
from afina.data.tags import parse_json, read_spans
from afina.errors import DataError

# In the order of preference; a data set with several lists of tags has most often one of named entities.
WORD_NAMES = ("tokens", "words", "token", "word", "palabras")
TAG_NAMES = ("ner_tags", "tags", "labels", "ner", "label", "etiquetas", "pos_tags", "upos", "pos", "chunk_tags")
TEXT_NAMES = ("text", "texto", "sentence", "content", "frase")
SPAN_NAMES = ("entities", "spans", "entidades", "label", "labels")
ROWS_LOOKED_AT = 200
FORMS = 'rows such as {"tokens": ["Ana", "laughs"], "tags": ["B-PER", "O"]}, or {"text": "Ana laughs", "entities": '
FORMS += '[{"start": 0, "end": 3, "label": "PER"}]}'


def find_tagged_columns(table: RowTable, config: DataConfig) -> ColumnChoice | None:
    """The columns of words and tags; None where the table has no two that look like it."""
    if not table.row_count or config.text_pair_column or config.label_separator:
        return None
    by_normal = {normalize_name(name): name for name in reversed(table.names)}
    given = [name for name in (config.text_column, config.label_column) if name]
    if any(name not in table.kinds for name in given):
        return None
    places = np.unique(np.linspace(0, table.row_count - 1, ROWS_LOOKED_AT).astype(np.int64))
    for inputs, targets, is_pair, what in (
        (WORD_NAMES, TAG_NAMES, are_words_and_tags, "lists of words with a tag for each"),
        (TEXT_NAMES, SPAN_NAMES, are_text_and_spans, "texts with entities in them"),
    ):
        firsts, seconds = list_named(inputs, config.text_column, by_normal), list_named(
            targets, config.label_column, by_normal
        )  # fmt: skip
        for first in firsts:
            fitting = [name for name in seconds if name != first and is_mostly(is_pair, table, places, first, name)]
            if fitting:
                return describe(first, fitting, config, what)
    return None


def list_named(names: Sequence[str], given: str | None, by_normal: Mapping[str, str]) -> list[str]:
    """The column that was given, or those of the table that have a usual name."""
    return [given] if given else [by_normal[name] for name in names if name in by_normal]


def is_mostly(is_pair: Any, table: RowTable, places: Any, first: str, second: str) -> bool:
    """Whether half of the rows or more hold such a pair of cells."""
    columns = table.take(places, [first, second])
    cells = ((parse_json(a), parse_json(b)) for a, b in zip(columns[first], columns[second], strict=True))
    # Labels that are missing or empty lists tell nothing: of classes, too, there may be none.
    told = [is_pair(a, b) for a, b in cells if b is not None and b != []]
    return bool(told) and 2 * sum(told) >= len(told)


def are_words_and_tags(words: Any, tags: Any) -> bool:
    """Whether one is a list of texts and the other one of names or whole numbers, as long within a few."""
    are_lists = isinstance(words, list) and isinstance(tags, list) and bool(words) and bool(tags)
    return are_lists and all(isinstance(w, str) for w in words) and all(isinstance(t, str | int) for t in tags)


def are_text_and_spans(text: Any, spans: Any) -> bool:
    """Whether one is a text and the other a list of start, end and label."""
    try:
        return isinstance(text, str) and bool(read_spans(spans))
    except ValueError:
        return False


def describe(first: str, fitting: Sequence[str], config: DataConfig, what: str) -> ColumnChoice:
    """The choice with its reasons."""
    others = f"; --label-column takes {' or '.join(map(repr, fitting[1:]))}" if fitting[1:] else ""
    reasons = []
    if not config.text_column:
        reasons.append(Reason("data.text_column", first, f"{first!r} and {fitting[0]!r} hold {what}"))
    if not config.label_column:
        reasons.append(Reason("data.label_column", fitting[0], f"{first!r} and {fitting[0]!r} hold {what}{others}"))
    return ColumnChoice(first, None, fitting[0], TAGGING, False, tuple(reasons))


def choose_tagged_columns(tables: Mapping[str, RowTable], config: DataConfig) -> ColumnChoice:
    """The columns for all parts.

    Raises:
        DataError: where a named column is missing, or there are no words with tags.
    """
    table = tables["all"] if "all" in tables else tables["train"]
    check_apart(config)
    check_columns(table, [name for name in (config.text_column, config.label_column) if name], list_flags(config))
    choice = find_tagged_columns(table, config)
    if choice is None and config.text_column and config.label_column:  # whatever is wrong with them is said row by row
        choice = ColumnChoice(config.text_column, None, config.label_column, TAGGING, False)
    if choice is None:
        raise DataError(
            f"{table.source}: no columns of words and their tags were found",
            found="; ".join(map(str, profile_columns(table).values())) or "no rows",
            expected=FORMS,
            remedy="--text-column NAME and --label-column NAME for columns of other names",
        )
    check_parts(tables, [choice.text, choice.label])
    return choice
