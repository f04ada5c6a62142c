"""Entities and their scores, by cases worked out by hand after conlleval's rules."""

from __future__ import annotations

import numpy as np
import pytest

from afina.metrics.tags import Tagging, count_rows, find_entities, find_scheme


def read(*rows: str, names: tuple[str, ...] = ()) -> tuple[Tagging, np.ndarray, np.ndarray]:
    """Rows of tags with spaces between them, as numbers, and where each row begins."""
    split = [row.split() for row in rows]
    names = names or tuple(sorted({tag for row in split for tag in row}))
    numbers = [names.index(tag) for row in split for tag in row]
    return Tagging(names), np.asarray(numbers), np.cumsum([0, *map(len, split)])


def list_entities(*rows: str) -> list[tuple[int, int, str]]:
    """First word, last word and type of each entity; words are counted through all rows."""
    tagging, tags, offsets = read(*rows)
    found = find_entities(tagging, tags, offsets)
    triples = zip(found.first, found.last, found.type, strict=True)
    return [(int(first), int(last), tagging.types[kind]) for first, last, kind in triples]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["B-a I-a O B-b"], [(0, 1, "a"), (3, 3, "b")]),
        (["B-a B-a I-a"], [(0, 0, "a"), (1, 2, "a")]),
        (["O I-a I-a O"], [(1, 2, "a")]),  # an I after O begins an entity
        (["B-a I-b I-b"], [(0, 0, "a"), (1, 2, "b")]),  # so does one of another type
        (["I-a I-a B-a O"], [(0, 1, "a"), (2, 2, "a")]),  # IOB1
        (["B-a I-a", "I-a O"], [(0, 1, "a"), (2, 2, "a")]),  # a row's end ends an entity
        (["S-a B-b I-b E-b E-b"], [(0, 0, "a"), (1, 3, "b"), (4, 4, "b")]),
        (["S-a I-a O E-a I-a"], [(0, 0, "a"), (1, 1, "a"), (3, 3, "a"), (4, 4, "a")]),
        (["B-a I-a L-a U-b O"], [(0, 2, "a"), (3, 3, "b")]),  # BILOU
        (["O O", "O"], []),
    ],
)  # fmt: skip
def test_entities_begin_and_end_where_conlleval_says(rows: list[str], expected: list[tuple[int, int, str]]) -> None:
    assert list_entities(*rows) == expected


def test_an_entity_counts_when_both_ends_and_the_type_are_right() -> None:
    names = ("B-a", "B-b", "I-a", "I-b", "O")
    tagging, true, offsets = read("B-a I-a O B-b", "O B-a O", names=names)
    # The first is too short, the second right, the third has another type, and one is made up: 1 of 3 and 1 of 4.
    _, predicted, _ = read("B-a O O B-b", "B-a B-b O", names=names)
    counts = count_rows(tagging, predicted, true, offsets)
    scores = counts.summarise()
    assert scores == pytest.approx({"precision": 1 / 4, "recall": 1 / 3, "f1": 2 / 7, "accuracy": 4 / 7})
    assert counts.tabulate(tagging.types) == [
        {"name": "a", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2},
        {"name": "b", "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1},
    ]
    assert counts.true_NE.tolist() == [[1, 1], [1, 0]]
    assert counts.right_N.tolist() == [3, 1]


def test_plain_tags_are_scored_word_by_word() -> None:
    names = ("ADJ", "NOUN", "VERB")
    tagging, true, offsets = read("NOUN VERB ADJ", "NOUN", names=names)
    _, predicted, _ = read("NOUN NOUN ADJ", "NOUN", names=names)
    scores = count_rows(tagging, predicted, true, offsets).summarise()
    # F1: ADJ 1, NOUN 2*2/(2+3), VERB 0
    assert scores == pytest.approx({"accuracy": 3 / 4, "f1_macro": (1 + 0.8 + 0) / 3})


@pytest.mark.parametrize(
    ("rows", "scheme", "loose"),
    [
        (["B-a I-a O"], "BIO", []),
        (["B-a O I-a"], "BIO", [2]),
        (["O I-a I-a B-a", "I-b"], "IOB1", []),
        (["B-a E-a S-a O"], "BIOES", []),
        (["B-a I-a O I-a E-a"], "BIOES", [3]),
        (["B-a L-a U-b O"], "BILOU", []),
        (["DET NOUN O"], "plain", []),
        (["0 1 2"], "plain", []),
    ],
)  # fmt: skip
def test_the_scheme_is_found(rows: list[str], scheme: str, loose: list[int]) -> None:
    found = find_scheme(*read(*rows))
    assert found.scheme == scheme
    assert np.flatnonzero(found.loose_K).tolist() == loose


def test_rows_without_any_entity_can_be_scored() -> None:
    tagging, tags, offsets = read("O O", "O")
    assert count_rows(tagging, tags, tags, offsets).summarise()["accuracy"] == 1.0


def test_intervals_draw_whole_rows() -> None:
    rows = ["B-a O", "O B-a"] * 20
    tagging, true, offsets = read(*rows)
    predicted = true.copy()
    predicted[:20] = tagging.names.index("O")  # the entities of a quarter of the rows are missed
    counts = count_rows(tagging, predicted, true, offsets)
    low, high = counts.bootstrap(200, 0)["recall"]
    assert low < counts.summarise()["recall"] == 0.75 < high
    assert counts.bootstrap(200, 0) == counts.bootstrap(200, 0)
    assert counts.bootstrap(0, 0) == {}
