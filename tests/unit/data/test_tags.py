"""Words and tags as they stand in cells."""

from __future__ import annotations

from typing import Any

import pytest

from afina.data import tags
from afina.data.tags import WORD, are_entity_tags, read_row, read_words


def test_lists_of_words_and_tags_are_taken_as_they_are() -> None:
    row = read_row(["Ana", "laughs"], ["B-PER", "O"])
    assert (row.words, row.tags) == (["Ana", "laughs"], ["B-PER", "O"])
    assert read_row(["a", "b"], [3, 0]).tags == ["3", "0"]


def test_lists_may_stand_in_a_cell_as_text() -> None:
    assert read_row('["Ana", "laughs"]', '["B-PER", "O"]').words == ["Ana", "laughs"]
    assert read_words("[1] is a text")[0] == ["[", "1", "]", "is", "a", "text"]


@pytest.mark.parametrize(
    ("words", "tag_cell", "reason"),
    [
        (None, ["O"], tags.NO_WORDS),
        ([], [], tags.NO_WORDS),
        ("  ", [], tags.NO_WORDS),
        (["a", 3], ["O", "O"], tags.NOT_WORDS),
        (7, ["O"], tags.NOT_WORDS),
        (["a"], None, tags.NO_TAGS),
        (["a"], "O", tags.NOT_TAGS),
        (["a"], [1.5], tags.NOT_TAGS),
        (["a"], [True], tags.NOT_TAGS),
        (["a", "b"], ["O", None], tags.EMPTY_TAG),
        (["a", "b"], ["O", " "], tags.EMPTY_TAG),
        (["a", "b"], ["O"], tags.OTHER_LENGTH),
        ("a b", ["O", "O"], tags.NOT_SPANS),
        ("a b", [[0, 1]], tags.NOT_SPANS),
        ("a b", [[0, 4, "x"]], tags.SPAN_OUTSIDE),
        ("a b", [[-5, 4, "x"]], tags.SPAN_BEFORE),
        ("a b", [[2, 2, "x"]], tags.SPAN_BACKWARDS),
        ("a b", [[3, 1, "x"]], tags.SPAN_BACKWARDS),
        ("a b", [[1, 2, "x"]], tags.SPAN_EMPTY),
        ("a b", [[0, 3, "x"], [2, 3, "y"]], tags.SPANS_OVERLAP),
    ],
)  # fmt: skip
def test_what_cannot_be_used_has_a_reason(words: Any, tag_cell: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        read_row(words, tag_cell)


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ([[0, 1, "x"], [2, 9, "y"]], [2, 9, "y"]),
        ([[0, 1, "x"], {"start": 2, "end": 3}], {"start": 2, "end": 3}),
        ([[0, 1, "x"], [0, 1, "y"]], [0, 1, "y"]),
    ],
)
def test_the_entity_that_is_wrong_is_shown(cell: Any, shown: Any) -> None:
    with pytest.raises(tags.SpanFaultError) as caught:
        read_row("a b", cell)
    assert caught.value.span == shown


def test_spans_become_bio_tags() -> None:
    row = read_row("Ana Ruiz visits Lima.", [[0, 8, "PER"], {"start": 16, "end": 20, "label": "LOC"}])
    assert row.words == ["Ana", "Ruiz", "visits", "Lima", "."]
    assert row.tags == ["B-PER", "I-PER", "O", "B-LOC", "O"]
    assert not row.widened
    assert read_row("Ana", []).tags == ["O"]


def test_a_span_that_cuts_a_word_is_widened_and_told() -> None:
    row = read_row("Madrids streets", [[0, 6, "LOC"]])
    assert (row.tags, row.widened) == (["B-LOC", "O"], True)


def test_words_are_found_in_any_script() -> None:
    assert WORD.findall("It's café-like, 東京 हिन्दी") == [
        "It", "'", "s", "café", "-", "like", ",", "東", "京", "हिन्दी"
    ]  # fmt: skip


def test_tags_name_entities_if_all_have_a_prefix() -> None:
    assert are_entity_tags(["B-a", "I-a", "O"])
    assert not are_entity_tags(["NOUN", "O"])
    assert not are_entity_tags(["O"])
    assert not are_entity_tags(["0", "1"])
