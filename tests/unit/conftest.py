"""Tokens and classifiers of the tiny models, for every test that needs some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def find_tokenizer(tiny_models: Callable[[str], Path]) -> Callable[[str], Any]:
    """`find_tokenizer(family)`: the family's tokenizer, loaded once. Don't change it."""
    from afina.models.load import load_tokenizer

    return cache(lambda family: load_tokenizer(tiny_models(family)))


@pytest.fixture
def encode(find_tokenizer: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """`encode(family, texts, max_seq_length=64)`: the token arrays of texts or pairs, by the family's tokenizer."""
    from afina.data.encode import encode_texts

    def build(family: str, texts: Sequence[Any], max_seq_length: int = 64) -> Any:
        folder = tmp_path_factory.mktemp("tokens")
        return encode_texts(find_tokenizer(family), [texts], max_seq_length, folder)

    return build


@pytest.fixture
def encode_part(encode: Callable[..., Any]) -> Callable[..., Any]:
    """`encode_part(family, name, kind, rows, seed)`: a part of made-up rows as the loop sees it."""
    from afina.data.encoded import EncodedPart
    from afina.testing.data import make_rows

    def build(family: str, name: str, kind: Any = "multiclass", rows: int = 24, seed: int = 0) -> EncodedPart:
        made = make_rows(kind, rows, seed)
        pair = "text_pair" in made[0]
        tokens = encode(family, [(row["text"], row["text_pair"]) if pair else row["text"] for row in made])
        return EncodedPart(name, tokens, number_labels(made), np.arange(1, rows + 1))

    return build


@pytest.fixture
def make_setup(tiny_models: Callable[[str], Path], find_tokenizer: Callable[[str], Any]) -> Callable[..., Any]:
    """`make_setup(family, technique, outputs=3, precision="fp32", **sections)`: what a technique is told of a run."""
    from afina.config.load import build_config
    from afina.techniques.base import Setup

    def build(family: str, technique: str, outputs: int = 3, precision: str = "fp32", **sections: Any) -> Setup:
        folder = tiny_models(family)
        head = {"num_labels": outputs, "problem_type": "single_label_classification"}
        if technique in ("lora", "qlora"):
            sections["lora"] = {"lora_dropout": 0.1, **sections.get("lora", {})}  # what `auto` becomes in a run
        config = build_config({"technique": technique, **sections})
        return Setup(folder, str(folder), head, find_tokenizer(family).pad_token_id, config, precision)

    return build


def number_labels(rows: Sequence[dict[str, Any]]) -> Any:
    """Class numbers (N,), marks (N, C) or decimals (N,)."""
    values = [row["label"] for row in rows]
    if isinstance(values[0], float):
        return np.asarray(values, np.float32)
    if isinstance(values[0], list):
        names = sorted({name for value in values for name in value})
        return np.asarray([[name in value for name in names] for value in values], np.uint8)
    names = sorted(set(values))
    return np.asarray([names.index(value) for value in values], np.int64)
