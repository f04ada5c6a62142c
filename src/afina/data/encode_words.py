"""Turn lists of words into token arrays in which each word is known by its first token.

A row that is longer than the limit becomes several windows that share tokens: each word is predicted in one of them, in
which it has others around it, and nothing is cut off. A unit of the loop is a window.
Letters: N rows, W windows, K words, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from afina.data.bad_rows import RowNumbers
from afina.data.batches import Indices, collate_rows
from afina.data.encode import TokenArrays, filler_token, map_file
from afina.data.encoded import EncodedPart
from afina.data.tags import TagArrays, join_offsets
from afina.errors import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

ROOM_SHARED = 4
"""A window's words have a quarter of it on either side, but at the ends of a row."""


@dataclass(frozen=True)
class WordTokens:
    """The tokens of N rows of words as W windows."""

    tokens: TokenArrays
    """One row a window."""
    firsts: npt.NDArray[np.uint8]
    """1 for a token at which a word is predicted, one for each word, in the words' order; as long as the ids."""
    rows: Indices
    """Which row each window is of (W,), rising."""
    unread: RowNumbers = field(default_factory=RowNumbers)
    """Places of rows with a word that the tokenizer makes nothing of: it reads as the unknown token."""

    @cached_property
    def word_offsets(self) -> Indices:
        """Where the words of each window begin among all words (W + 1,)."""
        counts = np.add.reduceat(self.firsts.astype(np.int64), self.tokens.offsets[:-1])
        return join_offsets(counts)

    @property
    def windowed(self) -> Indices:
        """Rows of more than one window."""
        rows, counts = np.unique(self.rows, return_counts=True)
        return rows[counts > 1]

    def take(self, windows: Indices) -> WordTokens:
        """Some of the windows, rising, in memory."""
        offsets = self.tokens.offsets
        marks = [self.firsts[offsets[window] : offsets[window + 1]] for window in windows]
        return WordTokens(self.tokens.take(windows), np.concatenate(marks), self.rows[windows])

    def take_rows(self, count: int) -> WordTokens:
        """The first rows."""
        return self.take(np.flatnonzero(self.rows < count))


@dataclass(frozen=True)
class TaggedTokens(EncodedPart):
    """A part whose rows are words with a tag each. Its `tokens` and its length are those of windows, its `labels` are
    `TagArrays` and its `row_numbers` (N,) those of rows."""

    words: WordTokens

    @property
    def tags(self) -> TagArrays:
        """The tags of the words of each row."""
        return self.labels  # type: ignore[return-value]

    def number_windows(self, windows: Indices) -> Indices:
        """The numbers of the rows that some windows are of."""
        return self.row_numbers[self.words.rows[windows]]

    def list_words(self, windows: Indices) -> Indices:
        """The places of the words of some windows among all words, in the windows' order."""
        return list_words(self.words, windows)


def list_words(words: WordTokens, windows: Indices) -> Indices:
    """The places of the words of some windows among all words."""
    offsets = words.word_offsets
    return np.concatenate([np.arange(offsets[window], offsets[window + 1]) for window in windows])


def collate_words(words: WordTokens, windows: Indices, pad_id: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The tensors of a batch of windows, and the places of its words in the flattened batch of B * T tokens."""
    import torch

    batch = collate_rows(words.tokens, windows, pad_id)
    width = batch["input_ids"].shape[1]
    offsets = words.tokens.offsets
    places = [
        line * width + np.flatnonzero(words.firsts[offsets[window] : offsets[window + 1]])
        for line, window in enumerate(windows)
    ]
    return batch, torch.from_numpy(np.concatenate(places).astype(np.int64))


def encode_words(
    tokenizer: PreTrainedTokenizerBase, batches: Iterable[Sequence[list[str]]], max_seq_length: int, folder: Path
) -> WordTokens:
    """The token arrays of all rows of words, written to `folder` while they are made.

    Args:
        max_seq_length: tokens that a window may have, those that the tokenizer adds included.

    Raises:
        ModelError: if the tokenizer can't say which word a token is of.
    """
    reader = WordReader(tokenizer, max_seq_length)
    folder.mkdir(parents=True, exist_ok=True)
    lengths: list[int] = []
    rows: list[int] = []
    row, unread = 0, RowNumbers()
    with open(folder / "ids.i32", "wb") as ids_file, open(folder / "firsts.u8", "wb") as firsts_file:
        for batch in batches:
            for ids, firsts, has_unread in reader.read(batch):
                if has_unread:
                    unread.add(row)
                for window_ids, window_firsts in reader.cut(ids, firsts):
                    ids_file.write(np.asarray(window_ids, np.int32).tobytes())
                    firsts_file.write(np.asarray(window_firsts, np.uint8).tobytes())
                    lengths.append(len(window_ids))
                    rows.append(row)
                row += 1
    ids_T: Any = map_file(folder / "ids.i32", np.int32)
    has_types = "token_type_ids" in tokenizer.model_input_names
    types_T = np.zeros(len(ids_T), np.uint8) if has_types else None
    tokens = TokenArrays(ids_T, join_offsets(lengths), types_T, 0, 0)
    return WordTokens(tokens, map_file(folder / "firsts.u8", np.uint8), np.asarray(rows, np.int64), unread)


class WordReader:
    """Words to tokens by one tokenizer.

    Args:
        tokenizer: of the model, a fast one.
        max_seq_length: tokens that a window may have.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_seq_length: int) -> None:
        if not tokenizer.is_fast:
            raise ModelError(
                f"the tokenizer {type(tokenizer).__name__} can't say which word a token is of",
                expected="a fast tokenizer (with a tokenizer.json), which tags of words need",
                remedy="--model with a model that has one",
            )
        self.tokenizer = tokenizer
        self.before, self.after = find_frame(tokenizer)
        self.room = max(1, max_seq_length - len(self.before) - len(self.after))
        self.space = " " if loses_space(tokenizer) else ""

    def read(self, rows: Sequence[list[str]]) -> Iterator[tuple[list[int], list[int], bool]]:
        """For each row its tokens, which of them are the first of a word, and whether a word gave none."""
        spaced = [[word if i == 0 else self.space + word for i, word in enumerate(row)] for row in rows]
        encoded = split_words(self.tokenizer, spaced)
        for place, row in enumerate(rows):
            ids, numbers = encoded["input_ids"][place], encoded.word_ids(place)
            if len(set(numbers)) < len(row):
                yield self._fill(ids, numbers, len(row))
            else:
                yield ids, [int(i == 0 or numbers[i - 1] != n) for i, n in enumerate(numbers)], False

    def _fill(self, ids: list[int], numbers: list[int], words: int) -> tuple[list[int], list[int], bool]:
        """The row with the unknown token for each word of which the tokenizer makes nothing."""
        by_word: dict[int, list[int]] = {}
        for token, number in zip(ids, numbers, strict=True):
            by_word.setdefault(number, []).append(token)
        filled = [by_word.get(word) or [filler_token(self.tokenizer)] for word in range(words)]
        firsts = [int(i == 0) for tokens in filled for i in range(len(tokens))]
        return [token for tokens in filled for token in tokens], firsts, True

    def cut(self, ids: list[int], firsts: list[int]) -> Iterator[tuple[list[int], list[int]]]:
        """The row's windows that hold a word to predict, framed as the tokenizer frames a text."""
        for start, end, first, last in list_windows(len(ids), self.room):
            marks = [mark if first <= start + i < last else 0 for i, mark in enumerate(firsts[start:end])]
            if any(marks):
                none_before, none_after = [0] * len(self.before), [0] * len(self.after)
                yield [*self.before, *ids[start:end], *self.after], [*none_before, *marks, *none_after]


def list_windows(length: int, room: int) -> Iterator[tuple[int, int, int, int]]:
    """Start and end of each window over so many tokens, and of the stretch in it whose words are predicted there.

    The stretches follow each other without a gap.
    """
    margin = room // ROOM_SHARED
    first = 0
    while True:
        start = max(0, min(first - margin, length - room))
        end = min(start + room, length)
        last = length if end == length else end - margin
        yield start, end, first, last
        if last == length:
            return
        first = last


def split_words(tokenizer: PreTrainedTokenizerBase, rows: Sequence[list[str]]) -> Any:
    """The tokenizer's lists for rows of words, without tokens of its own."""
    return tokenizer(
        list(rows), is_split_into_words=True, add_special_tokens=False, padding=False, return_attention_mask=False,
        return_token_type_ids=False, verbose=False,
    )  # fmt: skip


def find_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The tokens that the tokenizer puts before and after a text."""
    found = tokenizer([["a"]], is_split_into_words=True, return_attention_mask=False, verbose=False)
    ids, numbers = found["input_ids"][0], found.word_ids(0)
    inside = [place for place, number in enumerate(numbers) if number is not None]
    return ids[: inside[0]], ids[inside[-1] + 1 :]


def loses_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a word in a text has another token than the word alone, since the space before it is part of it."""
    in_text = tokenizer("a a", add_special_tokens=False, verbose=False)["input_ids"]
    apart = split_words(tokenizer, [["a", "a"]])["input_ids"][0]
    return len(in_text) == len(apart) == 2 and in_text[0] != in_text[1] and apart[0] == apart[1] == in_text[0]
