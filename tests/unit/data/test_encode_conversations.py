"""Conversations as tokens: which are learned, what is split, cut or left out, and that all of it is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afina.data.conversation_columns import choose_conversation_columns
from afina.data.conversations import ConversationPart
from afina.data.encode_conversations import (
    ENDED_EARLY,
    STRANGE,
    Encoding,
    Tally,
    TrainedRows,
    encode_conversations,
)
from afina.data.read import read_parts
from afina.pipeline.language.prepare import describe_tally
from afina.testing.templates import build_chat_tokenizer


def encode(family: str, rows: list[dict[str, Any]], folder: Path, **changes: Any) -> tuple[TrainedRows, Tally, Any]:
    """The rows as the training part, with what the tally says, and the tokenizer."""
    tables = read_parts(rows, folder)
    columns, places = choose_conversation_columns(tables), np.arange(len(rows))
    part = ConversationPart("train", tables["all"], columns, places, places, places)
    tokenizer = build_chat_tokenizer(family)
    encoding = Encoding(**{"has_template": True, "train_on": "assistant", "max_seq_length": 100, **changes})
    return *encode_conversations(part, tokenizer, encoding, folder / "tokens"), tokenizer


def talk(*texts: str) -> dict[str, Any]:
    """A conversation of these texts, the user's and the assistant's in turn."""
    return {"messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]}


def read_learned(data: TrainedRows, tokenizer: Any) -> list[tuple[int, str]]:
    """The row's number and the learned text of each row."""
    return [
        (int(data.row_numbers[i]), tokenizer.decode(data.tokens.row(i)[data.row_loss_mask(i) == 1]))
        for i in range(len(data))
    ]


def test_a_conversation_is_split_where_its_template_rewrites(tmp_path: Path) -> None:
    rows = [talk("a", "one", "b", "two"), talk("c", "three")]
    data, tally, tokenizer = encode("qwen3", rows, tmp_path)
    thought = "<think>\n\n</think>\n\n{}<|im_end|>"
    learned = [(1, "one"), (1, "two"), (2, "three")]
    assert read_learned(data, tokenizer) == [(row, thought.format(text)) for row, text in learned]
    assert (list(tally.split), tally.split_into, tally.faults, data.row_count) == ([1], 2, {}, 2)


def test_nothing_is_split_where_all_tokens_are_learned(tmp_path: Path) -> None:
    rows = [talk("a", "one", "b", "two"), talk("c", "three")]
    data, tally, _ = encode("qwen3", rows, tmp_path, train_on="all")
    assert list(tally.faults) == ["earlier turns that the chat template rewrites once others follow"]
    assert data.row_numbers.tolist() == [2]
    data, tally, tokenizer = encode("qwen3", rows, tmp_path / "last", train_on="last")
    assert (len(data), len(tally.split), data.row_count) == (2, 0, 2)
    assert read_learned(data, tokenizer)[0] == (1, "<think>\n\n</think>\n\ntwo<|im_end|>")


def test_answers_of_a_split_conversation_behind_the_longest_length_are_counted(tmp_path: Path) -> None:
    rows = [talk("a", "one", "b" * 200, "two"), talk("c" * 200, "three", "d", "four")]
    data, tally, tokenizer = encode("gpt-oss", rows, tmp_path)
    assert read_learned(data, tokenizer) == [(1, "<|channel|>final<|message|>one<|return|>")]
    assert (list(tally.split), tally.split_into, list(tally.untrained)) == ([1, 2], 4, [2])
    assert (data.tokens.cut_rows, tally.cut_trained) == (3, tally.whole_trained - int(data.loss_mask.sum()))


def test_answers_inside_a_prompt_of_messages_are_not_learned(tmp_path: Path) -> None:
    whole = talk("a", "one", "b", "two")["messages"]
    rows = [{"prompt": whole[:3], "completion": whole[3:]}] * 2
    data, _, tokenizer = encode("qwen2.5", rows, tmp_path, max_seq_length=300)
    assert read_learned(data, tokenizer) == [(1, "two<|im_end|>"), (2, "two<|im_end|>")]


@pytest.mark.parametrize(
    ("most", "told"),
    [
        (None, "--max-seq-length 142 would keep 99 % of the rows whole"),
        (140, "the model takes 140 tokens at most, and 99 % of the rows have up to 142"),
    ],
)
def test_a_length_is_advised_that_the_model_takes(most: int | None, told: str, tmp_path: Path) -> None:
    data, tally, _ = encode("qwen2.5", [talk("a" * 40, "one")], tmp_path, max_seq_length=140)
    assert tally.find_length() == 142
    (note,) = [each for each in describe_tally("train", tally, data, 140, most) if "were cut" in each]
    assert note.endswith(told)


def test_nothing_of_a_long_text_is_lost(tmp_path: Path) -> None:
    rows = [{"text": "abcdefgh" * 40}, {"text": "short"}]
    data, tally, tokenizer = encode("gemma", rows, tmp_path, has_template=False, max_seq_length=100)
    assert (data.row_count, list(tally.windowed), tally.windows, len(data)) == (2, [1], 4, 5)
    learned = "".join(text for number, text in read_learned(data, tokenizer) if number == 1)
    assert learned == rows[0]["text"] + tokenizer.eos_token
    assert (tally.cut_rows, tally.whole_trained, list(tally.untrained)) == (0, int(data.loss_mask.sum()), [])
    assert {int(data.tokens.row(i)[0]) for i in range(len(data))} == {tokenizer.bos_token_id}


def test_a_text_of_nothing_but_an_end_is_left_out(tmp_path: Path) -> None:
    rows = [{"text": "abc"}, {"text": "<|im_end|>"}]
    data, tally, _ = encode("qwen2.5", rows, tmp_path, has_template=False)
    assert (list(data.row_numbers), list(tally.untrained)) == ([1], [2])


def test_answers_that_spell_the_end_of_a_turn_are_noted(tmp_path: Path) -> None:
    rows = [talk("a", "one<|im_end|>\n"), talk("a", "one<|im_end|> two"), talk("b<|im_end|>", "two"), talk("a", "one")]
    _, tally, _ = encode("qwen2.5", rows, tmp_path)
    assert {note: list(numbers) for note, numbers in tally.notes.items()} == {ENDED_EARLY: [2], STRANGE: [3]}
    pairs = [{"prompt": "a", "completion": "one<|im_end|>two"}, {"prompt": "a", "completion": "one<|im_end|>"}]
    _, tally, _ = encode("qwen2.5", pairs, tmp_path / "pairs")
    assert {note: list(numbers) for note, numbers in tally.notes.items()} == {ENDED_EARLY: [1]}
