"""Words as tokens: each is known by its first token, stands in one window, and is never lost."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afina.data.encode_words import WordReader, WordTokens, collate_words, encode_words, list_windows
from afina.errors import ModelError

ROWS = [["a", "long", "row", "of", "some", "words"], ["b"], ["cc", "\u00e9t\u00e9"]]


@pytest.fixture
def encode(find_tokenizer: Callable[[str], Any], tmp_path: Path) -> Callable[..., WordTokens]:
    """`encode(rows, length, family="bert")`: the windows of rows of words."""

    def build(rows: list[list[str]], length: int, family: str = "bert") -> WordTokens:
        return encode_words(find_tokenizer(family), [rows], length, tmp_path / f"{family}{length}")

    return build


@pytest.mark.parametrize("room", [1, 2, 3, 4, 7, 16])
@pytest.mark.parametrize("length", [1, 2, 5, 16, 17, 40])
def test_windows_predict_every_token_once(length: int, room: int) -> None:
    windows = list(list_windows(length, room))
    assert windows[0][2] == 0
    assert windows[-1][3] == length
    assert all(before[3] == after[2] for before, after in pairwise(windows))
    assert all(start <= first < last <= end and end - start <= room for start, end, first, last in windows)


def test_a_word_is_known_by_its_first_token(encode: Callable[..., WordTokens]) -> None:
    words = encode(ROWS, 64)
    assert words.rows.tolist() == [0, 1, 2]
    assert words.word_offsets.tolist() == [0, 6, 7, 9]
    # [CLS] a, l o n g, r o w, o f, s o m e, w o r d s [SEP]: a token is a byte
    assert np.flatnonzero(words.firsts[: words.tokens.offsets[1]]).tolist() == [1, 2, 6, 9, 11, 15]
    assert words.tokens.lengths.tolist() == [21, 3, 9]


@pytest.mark.parametrize("length", [3, 5, 8, 12])
def test_long_rows_become_windows_that_lose_nothing(length: int, encode: Callable[..., WordTokens]) -> None:
    whole, cut = encode(ROWS, 64), encode(ROWS, length)
    assert cut.tokens.lengths.max() <= length
    assert len(cut.tokens) > len(whole.tokens)
    assert 0 in cut.windowed
    assert cut.word_offsets[-1] == whole.word_offsets[-1] == 9
    firsts = [tokens.tokens.ids[np.flatnonzero(tokens.firsts)].tolist() for tokens in (whole, cut)]
    assert firsts[0] == firsts[1]


def test_places_lead_to_the_words_of_a_batch(encode: Callable[..., WordTokens]) -> None:
    words = encode(ROWS, 8)
    windows = np.asarray([2, 0])
    batch, places = collate_words(words, windows, 0)
    found = batch["input_ids"].flatten()[places].tolist()
    ids = words.tokens.ids[np.flatnonzero(words.firsts)]
    offsets = words.word_offsets
    assert found == [*ids[offsets[2] : offsets[3]], *ids[offsets[0] : offsets[1]]]


def test_some_rows_can_be_taken(encode: Callable[..., WordTokens]) -> None:
    words = encode(ROWS, 8)
    first = words.take_rows(1)
    assert set(first.rows.tolist()) == {0}
    assert first.word_offsets[-1] == 6


def test_a_word_without_a_token_reads_as_unknown(encode: Callable[..., WordTokens], find_tokenizer: Any) -> None:
    words = encode([["a", "", "b"], ["c"]], 64)
    assert list(words.unread) == [0]
    assert words.word_offsets.tolist() == [0, 3, 4]
    assert words.tokens.row(0)[2] == find_tokenizer("bert").unk_token_id


def test_tokenizers_without_tokens_of_their_own_have_no_frame(encode: Callable[..., WordTokens]) -> None:
    assert encode([["a", "b"]], 64, "qwen2").tokens.lengths.tolist() == [2]


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="can't say which word a token is of"):
        WordReader(Slow(), 8)  # type: ignore[arg-type]
