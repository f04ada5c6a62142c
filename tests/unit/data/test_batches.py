"""The order of rows is a pure function and loses none; padding is what a slow loop would make of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.data.batches import (
    collate_rows,
    group_windows,
    order_evaluation_batches,
    order_training_batches,
    pad_length,
)
from afina.data.encode import TokenArrays

LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=300).map(lambda values: np.asarray(values, np.int64))


def flatten(batches: list[Any]) -> list[int]:
    return [int(row) for batch in batches for row in batch]


@settings(deadline=None, max_examples=60)
@given(lengths=LENGTHS, size=st.integers(1, 20), seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 30))
def test_an_epoch_takes_each_row_once_in_batches_of_the_size(lengths: Any, size: int, seed: int, epoch: int) -> None:
    batches = order_training_batches(lengths, size, seed, epoch)
    assert sorted(flatten(batches)) == list(range(len(lengths)))
    assert sorted(map(len, batches)) == sorted(
        [size] * (len(lengths) // size) + [len(lengths) % size] * (len(lengths) % size > 0)
    )
    again = order_training_batches(lengths.copy(), size, seed, epoch)
    assert [batch.tolist() for batch in again] == [batch.tolist() for batch in batches]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    lengths = np.full(100, 7)
    orders = [
        tuple(flatten(order_training_batches(lengths, 8, seed, epoch))) for seed in range(4) for epoch in range(4)
    ]
    assert len(set(orders)) == 16


def test_rows_of_like_length_are_trained_together() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 1000)
    padded = sum(len(rows) * int(lengths[rows].max()) for rows in order_training_batches(lengths, 16, 0, 0))
    assert padded < 1.1 * lengths.sum()
    # The longest rows don't all come first.
    longest = [int(lengths[rows].max()) for rows in order_training_batches(lengths, 16, 0, 0)]
    assert longest != sorted(longest, reverse=True)


@settings(deadline=None, max_examples=60)
@given(lengths=LENGTHS, budget=st.integers(1, 2000))
def test_an_evaluation_takes_each_row_once_within_the_budget(lengths: Any, budget: int) -> None:
    batches = order_evaluation_batches(lengths, budget)
    assert sorted(flatten(batches)) == list(range(len(lengths)))
    for rows in batches:
        padded = pad_length(int(lengths[rows].max()), int(lengths.max()))
        assert len(rows) == 1 or len(rows) * padded <= budget
    taken = [int(length) for rows in batches for length in lengths[rows]]
    assert taken == sorted(taken, reverse=True)


@pytest.mark.parametrize(
    ("longest", "length"),
    [(0, 0), (1, 1), (9, 9), (31, 31), (32, 32), (33, 34), (65, 68), (127, 128), (129, 136), (257, 272), (500, 512)],
)
def test_batches_have_few_lengths(longest: int, length: int) -> None:
    assert pad_length(longest, 2000) == length
    assert pad_length(longest, longest) == longest, "a model may have no room for more"


@given(longest=st.integers(1, 100_000))
def test_padding_to_few_lengths_is_a_sixteenth_at_most(longest: int) -> None:
    length = pad_length(longest, 10**6)
    assert longest <= length <= longest * 17 / 16
    assert pad_length(length, 10**6) == length
    assert len({pad_length(each, 10**6) for each in range(longest, 2 * longest)}) <= 33


def test_rows_are_padded_to_such_a_length_and_no_further_than_the_longest_row_of_all() -> None:
    tokens = make_tokens([[5] * length for length in (139, 101, 137, 20)], None)
    assert collate_rows(tokens, np.array([1, 2]), 9)["input_ids"].shape == (2, 139)
    assert collate_rows(tokens, np.array([1]), 9)["input_ids"].shape == (1, 104)
    assert collate_rows(tokens, np.array([1]), 9)["attention_mask"].sum() == 101


def test_an_evaluation_fills_its_budget() -> None:
    assert list(map(len, order_evaluation_batches(np.full(10, 8), 32))) == [4, 4, 2]


@pytest.mark.parametrize(("steps", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (9, [5])])
def test_windows_keep_the_order(steps: int, sizes: list[int]) -> None:
    batches = [np.asarray([i]) for i in range(5)]
    windows = group_windows(batches, steps)
    assert list(map(len, windows)) == sizes
    assert [batch for window in windows for batch in window] == batches


@settings(deadline=None, max_examples=40)
@given(data=st.data(), with_types=st.booleans())
def test_padding(data: st.DataObject, with_types: bool) -> None:
    rows = data.draw(st.lists(st.lists(st.integers(3, 99), min_size=1, max_size=9), min_size=1, max_size=8))
    types = [[i % 2 for i in range(len(row))] for row in rows]
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=8))
    batch = collate_rows(make_tokens(rows, types if with_types else None), np.asarray(chosen), pad_id=1)
    width = max(len(rows[i]) for i in chosen)
    wanted = {
        "input_ids": [rows[i] + [1] * (width - len(rows[i])) for i in chosen],
        "attention_mask": [[1] * len(rows[i]) + [0] * (width - len(rows[i])) for i in chosen],
    }
    if with_types:
        wanted["token_type_ids"] = [types[i] + [0] * (width - len(rows[i])) for i in chosen]
    assert {name: tensor.tolist() for name, tensor in batch.items()} == wanted
    assert {str(tensor.dtype) for tensor in batch.values()} == {"torch.int64"}


def make_tokens(rows: list[list[int]], types: list[list[int]] | None) -> TokenArrays:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    flat_types = None if types is None else np.asarray([i for row in types for i in row], np.uint8)
    return TokenArrays(np.asarray([i for row in rows for i in row], np.int32), offsets, flat_types, 0, 0)
