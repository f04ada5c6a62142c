"""Windows of long texts: every token learned once, none too long, all in order."""

from __future__ import annotations

import pytest

from afina.data.text_windows import cut_windows


@pytest.mark.parametrize("has_start", [False, True])
@pytest.mark.parametrize("most", [1, 2, 3, 4, 7, 50, 1000])
@pytest.mark.parametrize("length", [2, 3, 4, 49, 50, 51, 101, 500])
def test_every_token_is_learned_once(length: int, most: int, has_start: bool) -> None:
    ids = list(range(length))
    windows = list(cut_windows(ids, most, has_start=has_start))
    learned = [token for row, marks in windows for token, mark in zip(row, marks, strict=True) if mark]
    assert learned == ids[1:]  # the first has nothing before it
    assert all(len(row) <= max(most, 2) for row, _ in windows)
    assert all(not marks[0] for _, marks in windows)


def test_a_window_begins_with_the_start_token_and_the_token_before() -> None:
    windows = list(cut_windows([9, 1, 2, 3, 4], 4, has_start=True))
    assert windows == [([9, 1, 2], [0, 1, 1]), ([9, 2, 3, 4], [0, 0, 1, 1])]


def test_windows_are_of_about_one_length() -> None:
    lengths = [len(row) for row, _ in cut_windows(list(range(102)), 51, has_start=False)]
    assert lengths == [34, 35, 35]  # not 51, 51 and one of a single token


def test_a_text_that_fits_is_one_window() -> None:
    assert list(cut_windows([9, 1, 2], 3, has_start=True)) == [([9, 1, 2], [0, 1, 1])]
