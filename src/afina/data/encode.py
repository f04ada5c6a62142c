"""Turn texts into token arrays: one flat int32 file on disk for all rows, memory-mapped, and where each row starts.

What a limit cuts off is counted: a fast tokenizer returns it beside the row, any other reads long rows twice.
Letters: N rows, T tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from afina.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Texts = Sequence[str] | Sequence[tuple[str, str]] | Sequence[Any]


@dataclass(frozen=True)
class TokenArrays:
    """The tokens of N rows, one after the other."""

    ids: npt.NDArray[np.int32]
    """All rows' tokens in one flat array (memory-mapped)."""
    offsets: npt.NDArray[np.int64]
    """Where row i starts; N + 1 numbers, the last one is the end."""
    type_ids: npt.NDArray[np.uint8] | None
    """0 for the first text of a pair, 1 for the second; None where the model knows no such thing."""
    cut_rows: int
    """Rows that were longer than the limit."""
    cut_tokens: int
    """Tokens that were left out of them."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each row, shape (N,)."""
        return np.diff(self.offsets)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest row; 0 without rows."""
        return int(self.lengths.max(initial=0))

    def row(self, index: int) -> npt.NDArray[np.int32]:
        """The tokens of one row, shape (T,)."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    def take(self, rows: npt.NDArray[np.int64]) -> TokenArrays:
        """Some of the rows, in memory."""
        places = [np.arange(self.offsets[row], self.offsets[row + 1]) for row in rows]
        flat = np.concatenate([np.empty(0, np.int64), *places]).astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum([len(each) for each in places])]).astype(np.int64)
        return TokenArrays(self.ids[flat], offsets, None if self.type_ids is None else self.type_ids[flat], 0, 0)


def check_room(tokenizer: PreTrainedTokenizerBase, max_seq_length: int, *, is_pair: bool) -> None:
    """Refuse a length that the tokenizer's own special tokens fill.

    Raises:
        ConfigError: with the shortest length that leaves a token of the text.
    """
    specials = tokenizer.num_special_tokens_to_add(pair=is_pair)
    if max_seq_length <= specials:
        raise ConfigError(
            "model.max_seq_length leaves no room for a text",
            found=f"{max_seq_length}, and the tokenizer adds {specials} tokens of its own to each row",
            expected=f"{specials + 1} or more",
            remedy="--set model.max_seq_length=auto",
        )


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, batches: Iterable[Texts], max_seq_length: int, folder: Path
) -> TokenArrays:
    """The token arrays of all texts, written to `folder` while they are made.

    Args:
        tokenizer: of the model; its own special tokens are added.
        batches: lists of texts, or of pairs of texts.
        max_seq_length: tokens a row may keep. Longer pairs lose tokens of the longer text first.
        folder: where `ids.i32` and `type_ids.u8` are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wants_types = "token_type_ids" in tokenizer.model_input_names
    lengths = array("q")
    cut_rows = cut_tokens = 0
    with open(folder / "ids.i32", "wb") as ids_file, open(folder / "type_ids.u8", "wb") as types_file:
        for texts in batches:
            rows, types, whole_lengths = tokenize_batch(tokenizer, texts, max_seq_length, wants_types)
            lengths.extend(len(row) for row in rows)
            lost = [whole - len(row) for whole, row in zip(whole_lengths, rows, strict=True) if whole > len(row)]
            cut_rows += len(lost)
            cut_tokens += sum(lost)
            ids_file.write(np.fromiter(chain.from_iterable(rows), np.int32).tobytes())
            types_file.write(np.fromiter(chain.from_iterable(types), np.uint8).tobytes())
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    type_ids = map_file(folder / "type_ids.u8", np.uint8) if wants_types else None
    return TokenArrays(map_file(folder / "ids.i32", np.int32), offsets, type_ids, cut_rows, cut_tokens)


def tokenize_batch(
    tokenizer: PreTrainedTokenizerBase, texts: Texts, max_seq_length: int, wants_types: bool
) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """Tokens of each text after the cut, their type ids (empty lists if not wanted), and the lengths before the cut."""
    is_pair = bool(texts) and not isinstance(texts[0], str)
    tokenize = tokenize_once if tokenizer.is_fast and not is_pair else tokenize_twice
    rows, types, whole_lengths = tokenize(tokenizer, texts, max_seq_length, wants_types)
    for i, row in enumerate(rows):
        if not row:  # a tokenizer without special tokens can turn a text of odd characters into nothing
            rows[i] = [filler_token(tokenizer)]
            types[i] = [0] if wants_types else []
    return rows, types, whole_lengths


def tokenize_once(
    tokenizer: PreTrainedTokenizerBase, texts: Texts, max_seq_length: int, wants_types: bool
) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """As `tokenize_batch`, for single texts and a fast tokenizer, which also returns what it cut off, to be counted.

    It comes as further rows of the same text, each with special tokens of its own.
    """
    encoded = call_tokenizer(
        tokenizer,
        texts,
        wants_types,
        truncation="longest_first",
        max_length=max_seq_length,
        return_overflowing_tokens=True,
    )
    specials = tokenizer.num_special_tokens_to_add(pair=False)
    kept: list[int] = []  # the first row of each text
    whole_lengths: list[int] = []
    for place, (text, row) in enumerate(zip(encoded["overflow_to_sample_mapping"], encoded["input_ids"], strict=True)):
        if text == len(kept):
            kept.append(place)
            whole_lengths.append(len(row))
        else:
            whole_lengths[text] += len(row) - specials
    rows = [encoded["input_ids"][place] for place in kept]
    types = [encoded["token_type_ids"][place] if wants_types else [] for place in kept]
    return rows, types, whole_lengths


def tokenize_twice(
    tokenizer: PreTrainedTokenizerBase, texts: Texts, max_seq_length: int, wants_types: bool
) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """As `tokenize_batch`, for any tokenizer: all texts whole, then the long ones again, cut."""
    encoded = call_tokenizer(tokenizer, texts, wants_types)
    rows, types = encoded["input_ids"], encoded["token_type_ids"] if wants_types else [[] for _ in texts]
    whole_lengths = [len(row) for row in rows]
    long = [i for i, length in enumerate(whole_lengths) if length > max_seq_length]
    if long:
        again = call_tokenizer(
            tokenizer,
            [texts[i] for i in long],
            wants_types,
            truncation="longest_first",
            max_length=max_seq_length,
        )
        for place, i in enumerate(long):
            rows[i] = again["input_ids"][place]
            types[i] = again["token_type_ids"][place] if wants_types else []
    return rows, types, whole_lengths


def call_tokenizer(
    tokenizer: PreTrainedTokenizerBase, texts: Texts, wants_types: bool, **options: Any
) -> dict[str, Any]:
    """The tokenizer's lists for texts or pairs, without padding and masks."""
    first, second = texts, None
    if texts and not isinstance(texts[0], str):
        first, second = [pair[0] for pair in texts], [pair[1] for pair in texts]
    return tokenizer(
        list(first),
        second,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=wants_types,
        verbose=False,
        **options,
    )


def filler_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that stands for a text without any: unknown, end or padding, the first one there is."""
    for token in (tokenizer.unk_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    return 0


def map_file(path: Path, dtype: type[np.generic]) -> Any:
    """The file as a read-only array; an empty file gives an empty array (it can't be mapped)."""
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r")
