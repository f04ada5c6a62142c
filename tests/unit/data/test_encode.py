"""Token arrays are what the tokenizer gives for each text alone, and what is cut is counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afina.data.encode import TokenArrays, check_room, encode_texts
from afina.errors import ConfigError
from afina.models.load import load_tokenizer
from afina.testing.models import FAMILIES

TEXTS = ["kettle", "a much longer text about a kettle and a knife", "", "wörld — 日本", "x"]
PAIRS = list(zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True))


def encode_slowly(tokenizer: Any, texts: list[Any], limit: int) -> tuple[list[Any], list[Any], int, int]:
    """Rows, type ids, and the two counts, one text at a time."""
    rows, types, cut_rows, cut_tokens = [], [], 0, 0
    for text in texts:
        # Lists of one: called with a bare pair, transformers forgets a second text that is empty.
        columns = ([text],) if isinstance(text, str) else ([text[0]], [text[1]])
        whole = tokenizer(*columns)["input_ids"][0]
        cut = tokenizer(*columns, truncation="longest_first", max_length=limit, return_token_type_ids=True)
        rows.append(cut["input_ids"][0])
        types.append(cut["token_type_ids"][0])
        cut_rows += len(whole) > limit
        cut_tokens += max(0, len(whole) - limit)
    return rows, types, cut_rows, cut_tokens


def list_rows(tokens: TokenArrays) -> list[list[int]]:
    return [tokens.row(i).tolist() for i in range(len(tokens))]


@pytest.mark.parametrize("limit", [8, 13, 128])
@pytest.mark.parametrize("texts", [TEXTS[:2] + TEXTS[3:], PAIRS], ids=["texts", "pairs"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_those_of_the_tokenizer(
    family: str, texts: list[Any], limit: int, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tiny_models(family))
    tokens = encode_texts(tokenizer, [texts[:3], texts[3:]], limit, tmp_path)
    rows, types, cut_rows, cut_tokens = encode_slowly(tokenizer, texts, limit)
    assert list_rows(tokens) == rows
    assert (tokens.cut_rows, tokens.cut_tokens) == (cut_rows, cut_tokens)
    assert tokens.lengths.tolist() == [len(row) for row in rows]
    if FAMILIES[family].specials.token_types:
        assert tokens.type_ids is not None
        assert tokens.type_ids.tolist() == [i for row in types for i in row]
        assert (1 in tokens.type_ids) == (texts is PAIRS)
    else:
        assert tokens.type_ids is None


def test_the_counts_above_are_of_cut_rows(encode: Callable[..., Any]) -> None:
    tokens = encode("bert", TEXTS, 8)
    assert (tokens.cut_rows, tokens.cut_tokens) == (2, (45 + 2) + (17 + 2) - 2 * 8)
    assert encode("bert", TEXTS, 128).cut_rows == 0


def test_both_texts_of_a_long_pair_keep_tokens(encode: Callable[..., Any], tiny_models: Callable[[str], Path]) -> None:
    tokens = encode("bert", [("a" * 50, "b" * 50), ("a", "b" * 50)], 13)
    tokenizer = load_tokenizer(tiny_models("bert"))
    assert tokenizer.decode(tokens.row(0)) == "[CLS]aaaaa[SEP]bbbbb[SEP]"
    assert tokenizer.decode(tokens.row(1)) == "[CLS]a[SEP]bbbbbbbbb[SEP]"


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=12),
    limit=st.integers(3, 30),
    size=st.integers(1, 5),
)
def test_the_size_of_the_batches_changes_nothing(
    texts: list[str], limit: int, size: int, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tiny_models("bert"))
    batches = [texts[i : i + size] for i in range(0, len(texts), size)]
    tokens = encode_texts(tokenizer, batches, limit, tmp_path / "a")
    whole = encode_texts(tokenizer, [texts], limit, tmp_path / "b")
    assert list_rows(tokens) == list_rows(whole) == encode_slowly(tokenizer, texts, limit)[0]
    assert (tokens.cut_rows, tokens.cut_tokens) == (whole.cut_rows, whole.cut_tokens)


@pytest.mark.parametrize(("family", "filler"), [("gpt2", "<|endoftext|>"), ("qwen3", "<|im_end|>"), ("phi3", "<unk>")])
def test_a_text_without_tokens_gets_one(
    family: str, filler: str, encode: Callable[..., Any], tiny_models: Callable[[str], Path]
) -> None:
    tokenizer = load_tokenizer(tiny_models(family))
    assert tokenizer("")["input_ids"] == []
    tokens = encode(family, ["a", "", "b"])
    assert list_rows(tokens)[1] == [tokenizer.convert_tokens_to_ids(filler)]
    assert tokens.cut_rows == 0


def test_a_limit_baked_into_the_tokenizer_hides_no_cut(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_models("bert"))
    tokenizer.backend_tokenizer.enable_truncation(6)
    tokenizer.backend_tokenizer.enable_padding(length=40)
    tokenizer.save_pretrained(tmp_path / "baked")
    tokens = encode_texts(load_tokenizer(tmp_path / "baked"), [["a" * 30, "b"]], 20, tmp_path / "tokens")
    assert tokens.lengths.tolist() == [20, 3]
    assert (tokens.cut_rows, tokens.cut_tokens) == (1, 12)


def test_arrays_lie_on_disk_and_cannot_be_changed(encode: Callable[..., Any]) -> None:
    tokens = encode("bert", TEXTS)
    assert isinstance(tokens.ids, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        tokens.ids[0] = 1


def test_no_rows_give_empty_arrays(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    tokens = encode_texts(load_tokenizer(tiny_models("bert")), [], 8, tmp_path)
    assert len(tokens) == 0
    assert tokens.ids.tolist() == []
    assert tokens.offsets.tolist() == [0]


@pytest.mark.parametrize(("is_pair", "specials"), [(False, 2), (True, 3)])
def test_a_length_without_room_for_a_text_is_refused(
    is_pair: bool, specials: int, tiny_models: Callable[[str], Path]
) -> None:
    tokenizer = load_tokenizer(tiny_models("bert"))
    check_room(tokenizer, specials + 1, is_pair=is_pair)
    with pytest.raises(ConfigError) as caught:
        check_room(tokenizer, specials, is_pair=is_pair)
    assert str(caught.value) == (
        "model.max_seq_length leaves no room for a text\n"
        f"  found: {specials}, and the tokenizer adds {specials} tokens of its own to each row\n"
        f"  expected: {specials + 1} or more\n"
        "  do: --set model.max_seq_length=auto"
    )
