"""Where the rows are cut whose answers are shown before and after."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from afina.data.conversation_columns import choose_conversation_columns
from afina.data.conversations import ConversationPart
from afina.data.encode_conversations import Encoding, encode_conversations
from afina.data.read import read_parts
from afina.pipeline.language.answers import Sample, choose_samples, cut_at_answer, cut_in_middle, find_stop_tokens
from afina.testing.templates import build_chat_tokenizer


@pytest.mark.parametrize(
    ("cut", "marks", "expected"),
    [
        (cut_in_middle, [0, 1, 1, 1, 1, 1, 1], (4, 7)),  # the first window of a text, after a start token
        (cut_in_middle, [0, 0, 1, 1, 1, 1], (4, 6)),  # a later one, after the last token of that before it
        (cut_in_middle, [1, 1, 1, 1], (2, 4)),
        (cut_at_answer, [0, 0, 1, 1, 1, 1], (2, 6)),
        (cut_at_answer, [0, 1, 0, 0, 1, 1, 0], (4, 6)),
    ],
)
def test_a_plain_text_is_cut_in_its_middle_and_others_before_the_last_answer(
    cut: Any, marks: list[int], expected: tuple[int, int]
) -> None:
    assert cut(np.array(marks)) == expected


def encode(
    rows: list[dict[str, Any]], folder: Path, train_on: str, max_seq_length: int, family: str = "qwen2.5"
) -> Any:
    """What `choose_samples` reads of a prepared run."""
    tables = read_parts(rows, folder)
    columns, places = choose_conversation_columns(tables), np.arange(len(rows))
    part = ConversationPart("test", tables["all"], columns, places, places, places)
    tokenizer = build_chat_tokenizer(family)
    encoding = Encoding(True, train_on, max_seq_length)
    data, _ = encode_conversations(part, tokenizer, encoding, folder / "tokens")
    return SimpleNamespace(
        parts={"test": data}, conversations=SimpleNamespace(parts={"test": part}, columns=columns), encoding=encoding,
        tokenizer=tokenizer, config=SimpleNamespace(evaluation=SimpleNamespace(generation_samples=8)),
    )  # fmt: skip


def choose(*args: Any) -> tuple[list[Sample], Any]:
    """The samples of all rows, and the tokenizer; arguments as for `encode`."""
    prepared = encode(*args)
    return choose_samples(prepared, "test"), prepared.tokenizer


def make_talks() -> list[dict[str, Any]]:
    turns = [("one", "two", "three", "four"), ("five", "six")]
    return [
        {"messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]}
        for texts in turns
    ]


@pytest.mark.parametrize("train_on", ["assistant", "last", "all"])
def test_what_is_asked_does_not_depend_on_what_is_learned(train_on: str, tmp_path: Path) -> None:
    samples, tokenizer = choose(make_talks(), tmp_path, train_on, 200)
    assert [(sample.row, sample.reference) for sample in samples] == [(1, "four"), (2, "six")]
    for sample, last in zip(samples, ("three", "five"), strict=True):
        assert tokenizer.decode(sample.prompt_ids).endswith(f"{last}<|im_end|>\n<|im_start|>assistant\n")


def test_a_tool_call_keeps_the_token_that_tells_it_from_a_text(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    asked = {"role": "user", "content": "sum"}
    rows = [{"messages": [asked, {"role": "assistant", "content": None, "tool_calls": [call]}]}]
    (sample,), tokenizer = choose(rows, tmp_path, "assistant", 200, "mistral")
    assert tokenizer.decode(tokenizer("[TOOL_CALLS]")["input_ids"], skip_special_tokens=True) == ""
    assert sample.reference == '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}]'


@pytest.mark.parametrize(
    ("family", "end"), [("gemma", "<end_of_turn>"), ("phi-3", "<|end|>"), ("qwen2.5", "<|im_end|>")]
)
def test_an_answer_stops_at_what_ended_those_that_were_learned(family: str, end: str, tmp_path: Path) -> None:
    prepared = encode(make_talks(), tmp_path, "assistant", 200, family)
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None))
    stops = find_stop_tokens(model, prepared.parts["test"], prepared.tokenizer)
    eos = prepared.tokenizer.eos_token_id
    assert stops == sorted({eos, prepared.tokenizer.convert_tokens_to_ids(end)})


def test_a_row_whose_answer_is_cut_off_is_cut_in_its_middle(tmp_path: Path) -> None:
    samples, _ = choose(make_talks(), tmp_path, "all", 6)
    assert len(samples) == 2
    assert all(len(sample.prompt_ids) > 1 and sample.reference for sample in samples)
