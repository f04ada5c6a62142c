"""Rows are packed without loss and without overlap, and a batch asks for every learned token from the one before it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afina.data.encode import TokenArrays
from afina.data.encode_conversations import TrainedRows
from afina.data.packing import collate_packed, collate_padded, pack_rows, share_sequences


def make_rows(lengths: list[int]) -> TrainedRows:
    """Rows whose token says its row and place (100 row + place); the second half of each row is learned."""
    ids = np.asarray([100 * row + place for row, length in enumerate(lengths) for place in range(length)], np.int32)
    marks = np.asarray([place >= max(1, length // 2) for length in lengths for place in range(length)], np.uint8)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TrainedRows("train", TokenArrays(ids, offsets, None, 0, 0), marks, np.arange(1, len(lengths) + 1))


@pytest.mark.parametrize(
    ("rows_a_pass", "passes", "rows", "sequences", "expected"),
    [(16, 1, 572, 72, (2, 1)), (4, 4, 35, 9, (1, 4)), (8, 2, 10, 10, (8, 2)), (2, 1, 1000, 10, (1, 1)),
     (2, 8, 160, 10, (1, 1)), (16, 4, 640, 80, (2, 4))],
)  # fmt: skip
def test_a_step_of_sequences_holds_about_the_rows_that_are_asked_for(
    rows_a_pass: int, passes: int, rows: int, sequences: int, expected: tuple[int, int]
) -> None:
    assert share_sequences(rows_a_pass, passes, rows, sequences) == expected


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_every_row_is_packed_once_and_no_sequence_is_too_long(lengths: list[int]) -> None:
    lengths_N = np.asarray(lengths, np.int64)
    packs = pack_rows(lengths_N, 50)
    assert sorted(row for pack in packs for row in pack) == list(range(len(lengths)))
    assert max(int(lengths_N[pack].sum()) for pack in packs) <= 50
    fewest = -(-int(lengths_N.sum()) // 50)
    assert len(packs) <= 11 / 9 * max(fewest, 1) + 6 / 9 + (lengths_N > 25).sum()


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_each_row_goes_into_the_smallest_room_that_it_fits(lengths: list[int]) -> None:
    rooms: list[tuple[int, list[int]]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        fitting = [place for place, (room, _) in enumerate(rooms) if room >= lengths[row]]
        least = min((rooms[place][0] for place in fitting), default=0)
        place = max((place for place in fitting if rooms[place][0] == least), default=len(rooms))
        room, rows = rooms[place] if fitting else (20, [])
        rooms[place : place + 1] = [(room - lengths[row], [*rows, row])]
    wanted = sorted(room for room, _ in rooms)
    packs = pack_rows(np.asarray(lengths, np.int64), 20)
    assert sorted(20 - sum(lengths[row] for row in pack) for pack in packs) == wanted


def test_rows_go_where_they_leave_least_room() -> None:
    packs = pack_rows(np.asarray([6, 5, 4, 5]), 10)
    assert [pack.tolist() for pack in packs] == [[0, 2], [1, 3]]


def test_a_padded_batch_asks_for_each_learned_token_from_the_one_before() -> None:
    data = make_rows([4, 2, 5])
    batch = collate_padded(data, np.asarray([0, 1, 2]), pad_id=7)
    assert batch.inputs["input_ids"].tolist() == [[0, 1, 2, 3, 7], [100, 101, 7, 7, 7], [200, 201, 202, 203, 204]]
    assert batch.inputs["attention_mask"].sum(dim=1).tolist() == [4, 2, 5]
    before = batch.inputs["input_ids"].flatten()[batch.places_K]
    assert (batch.targets_K - before == 1).all(), "the token before, in the same row"
    assert batch.targets_K.tolist() == [2, 3, 101, 202, 203, 204]


def test_packed_rows_see_themselves_only_and_begin_at_position_0() -> None:
    data = make_rows([3, 2, 4])
    batch = collate_packed(data, [np.asarray([0, 1]), np.asarray([2])], pad_id=7)
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 0]]
    mask = batch.inputs["attention_mask"][:, 0].int().tolist()
    assert mask[0] == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]
    assert mask[1][3] == [1, 1, 1, 1, 0]
    assert batch.targets_K.tolist() == [1, 2, 101, 202, 203]


@pytest.mark.parametrize("lengths", [[5], [2, 2, 2], [9, 1 + 1, 30]])
def test_counts_are_those_of_the_marks(lengths: list[int]) -> None:
    data = make_rows(lengths)
    assert data.trained_counts.tolist() == [int(data.row_loss_mask(row).sum()) for row in range(len(data))]
