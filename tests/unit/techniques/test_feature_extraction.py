"""Only the head is counted as moving, and the solved head gives its logits live, saved and restored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from afina.models.features import extract_features
from afina.models.heads import LinearHead, PooledClassifier, describe_layout, find_head, find_head_path
from afina.models.load import load_tokenizer
from afina.techniques.base import iterate_trainable
from afina.techniques.feature_extraction import FeatureExtraction
from afina.testing.models import FAMILIES, HIDDEN


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_head_moves(family: str, make_setup: Callable[..., Any]) -> None:
    setup = make_setup(family, "feature-extraction")
    loaded = FeatureExtraction().load(setup)
    model = FeatureExtraction().prepare(loaded, setup)
    path, head = find_head_path(model), find_head(model)
    assert [name for name, _ in iterate_trainable(model)] == [f"{path}.{name}" for name, _ in head.named_parameters()]


@pytest.mark.parametrize("pooling", ["own", "first", "mean", "last"])
@pytest.mark.parametrize("family", ["bert", "roberta", "llama"])
def test_the_solved_head_gives_its_logits(
    family: str,
    pooling: str,
    make_setup: Callable[..., Any],
    compute_logits: Callable[..., Any],
    encode: Callable[..., Any],
    tmp_path: Path,
) -> None:
    setup = make_setup(family, "feature-extraction")
    technique, pad_id = FeatureExtraction(), setup.pad_token_id
    loaded = technique.load(setup)
    technique.prepare(loaded, setup)
    random = np.random.default_rng(0)
    biasless = family == "llama" and pooling == "own"
    bias = np.zeros(3) if biasless else random.normal(size=3)
    head = LinearHead(random.normal(size=(3, HIDDEN)).astype(np.float32), bias.astype(np.float32))
    tokens = encode(family, ["kettle and knife", "a", "snow in the west, willow and a low cloud"])
    features = extract_features(
        loaded.model, tokens, np.arange(3), (pooling,), pad_id=pad_id, tokens_per_batch=50, device="cpu",
        precision="fp32",
    )  # fmt: skip
    model = technique.install(loaded.model, head, pooling)
    wanted = torch.from_numpy(head.logits(features[pooling]))
    torch.testing.assert_close(compute_logits(model, family, pad_id), wanted, rtol=1e-4, atol=1e-4)
    assert {name.rsplit(".", 1)[0] for name, _ in iterate_trainable(model)} == {
        find_head_path(model) if pooling == "own" else "head"
    }
    technique.save(model, load_tokenizer(setup.base), tmp_path)
    assert describe_layout(tmp_path) == ("transformers" if pooling == "own" else "sentence-transformers")
    torch.manual_seed(99)
    restored = technique.restore(tmp_path, setup)
    assert isinstance(restored, PooledClassifier) == (pooling != "own")
    torch.testing.assert_close(compute_logits(restored, family, pad_id), wanted, rtol=1e-4, atol=1e-4)
