"""The split: complete, seeded, in the fractions asked for, with equal texts on one side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.data.split import find_rarest_labels, find_strata, hash_texts, normalize_text, split_rows

FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}


@given(
    rows=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), min_size=8, max_size=200),
    seed=st.integers(0, 2**31 - 1),
    validation=st.floats(0.01, 0.45),
    test=st.floats(0.01, 0.45),
)
@settings(max_examples=200, deadline=None)
def test_each_row_once_groups_whole_classes_in_train(
    rows: list[tuple[int, int]], seed: int, validation: float, test: float
) -> None:
    groups, strata = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    fractions = {"train": 1 - validation - test, "validation": validation, "test": test}
    parts = split_rows(groups, strata, fractions, seed)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(rows)))
    assert all(np.all(np.diff(part) > 0) for part in parts.values())
    sides = [set(groups[part].tolist()) for part in parts.values()]
    assert sum(map(len, sides)) == len(set(groups.tolist()))
    assert set(strata[parts["train"]].tolist()) == set(strata.tolist())


@given(sizes=st.lists(st.integers(20, 80), min_size=1, max_size=6), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_sizes_follow_the_fractions_in_all_and_in_each_class(sizes: list[int], seed: int) -> None:
    strata = np.repeat(np.arange(len(sizes)), sizes)
    parts = split_rows(np.arange(len(strata)), strata, FRACTIONS, seed)
    for name, fraction in FRACTIONS.items():
        assert abs(len(parts[name]) - fraction * len(strata)) <= 1.5
        for stratum, size in enumerate(sizes):
            assert abs(np.sum(strata[parts[name]] == stratum) - fraction * size) <= 3


def test_the_same_rows_for_ever() -> None:
    parts = split_rows(np.arange(20), np.arange(20) % 2, FRACTIONS, seed=7)
    again = split_rows(np.arange(20), np.arange(20) % 2, FRACTIONS, seed=7)
    other = split_rows(np.arange(20), np.arange(20) % 2, FRACTIONS, seed=8)
    assert {name: part.tolist() for name, part in parts.items()} == PINNED
    assert all(np.array_equal(parts[name], again[name]) for name in FRACTIONS)
    assert any(not np.array_equal(parts[name], other[name]) for name in FRACTIONS)


PINNED = {
    "train": [0, 1, 3, 4, 6, 7, 8, 9, 10, 13, 16, 17, 18, 19],
    "validation": [14, 15],
    "test": [2, 5, 11, 12],
}


def test_single_rows_of_a_class_go_to_train_and_upset_no_other_class() -> None:
    strata = np.array([*range(28), *[28] * 50, *[29] * 50])
    parts = split_rows(np.arange(len(strata)), strata, FRACTIONS, seed=3)
    assert set(range(28)) <= set(parts["train"].tolist())
    for name, rows in (("validation", 5), ("test", 10)):
        assert np.bincount(strata[parts[name]], minlength=30)[28:].tolist() == [rows, rows]


def test_a_class_that_only_stands_in_mixed_groups_is_in_train() -> None:
    # Two groups share the rare class 0; the smaller one, dealt to test, is all that class 1 has.
    groups = np.array([0] * 5 + [1] * 4 + list(range(2, 52)))
    strata = np.array([0, 2, 2, 2, 2, 0, 1, 1, 1] + [2] * 50)
    parts = split_rows(groups, strata, FRACTIONS, seed=5)
    assert set(range(9)) <= set(parts["train"].tolist())


def test_no_part_is_empty_where_rows_allow() -> None:
    parts = split_rows(np.arange(8), np.arange(8) % 2, {"train": 0.98, "validation": 0.01, "test": 0.01}, seed=0)
    assert [len(part) for part in parts.values()] == [6, 1, 1]


def test_a_large_group_is_not_torn_and_the_rest_evens_it_out() -> None:
    groups = np.array([0] * 30 + list(range(1, 71)))
    parts = split_rows(groups, np.zeros(100, dtype=np.int64), FRACTIONS, seed=1)
    assert set(range(30)) <= set(parts["train"].tolist())
    assert [len(part) for part in parts.values()] == [70, 10, 20]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("Hola  mundo", "hola\nmundo ", True),
        ("ﬁn", "fin", True),
        ("STRASSE", "straße", True),
        ("é", "e\u0301", True),
        ("hola", "ola", False),
        ("a b", "ab", False),
    ],
)
def test_texts_that_read_the_same_are_one_group(a: str, b: str, same: bool) -> None:
    assert (normalize_text(a) == normalize_text(b)) is same
    groups = hash_texts([(a,), ("other",), (b,)])
    assert (groups[0] == groups[2]) is np.bool_(same)
    assert groups[0] != groups[1]


def test_pairs_are_grouped_by_both_texts() -> None:
    groups = hash_texts([("a", "b"), ("a", "c"), ("ab", ""), ("A", "b ")])
    assert groups[0] == groups[3]
    assert len(set(groups.tolist())) == 3


def test_strata_of_numbers_and_of_label_sets() -> None:
    numbers = np.arange(100, dtype=np.float32)
    assert np.bincount(find_strata(numbers)).tolist() == [10] * 10
    labels = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=np.uint8)
    assert find_rarest_labels(labels).tolist() == [0, 1, 2, 3]
