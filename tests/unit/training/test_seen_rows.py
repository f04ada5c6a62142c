"""Training only the seen rows of a model's table: which models allow it, and that the model ends the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from afina.kernels.embedding import SeenRows
from afina.models.load import load_classifier, load_language_model
from afina.testing.models import DECODERS, ENCODERS
from afina.training.optim import make_optimizer
from afina.training.seen_rows import find_table, train_seen_rows

HEAD = {"num_labels": 2, "id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
IDS_BT = torch.tensor([[10, 11, 12], [11, 13, 10]])
IDS = IDS_BT.flatten().numpy().astype(np.int32)
PAD = 3
# Gemma's table multiplies what it gives; the others' tables only give it.
PLAIN = [family for family in (*ENCODERS, *DECODERS) if family != "gemma3"]

Build = Callable[[str], Path]


def load(tiny_models: Build, family: str) -> Any:
    torch.manual_seed(0)  # the new head
    return load_classifier(tiny_models(family), HEAD, PAD, dropout=0.0).model.requires_grad_(True)


def train(model: nn.Module) -> None:
    optimizer = make_optimizer(model, 0.01, weight_decay=0.3)
    labels = torch.tensor([0, 1])
    for _ in range(4):
        logits = model(input_ids=IDS_BT, attention_mask=torch.ones_like(IDS_BT)).logits
        nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("family", PLAIN)
def test_a_model_ends_as_if_its_whole_table_had_been_trained(tiny_models: Build, family: str) -> None:
    whole, lazy = load(tiny_models, family).train(), load(tiny_models, family).train()
    start = {name: weight.clone() for name, weight in whole.state_dict().items()}
    train(whole)
    with train_seen_rows(lazy, IDS, PAD) as seen:
        assert seen is not None
        assert seen <= 6
        train(lazy)
    assert lazy.state_dict().keys() == start.keys()
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(lazy.state_dict()[name], weight, rtol=1e-4, atol=2e-5, msg=lambda m, n=name: n + m)
    assert any(not torch.equal(weight, start[name]) for name, weight in whole.state_dict().items())


def test_it_can_be_switched_off(tiny_models: Build) -> None:
    model = load(tiny_models, "bert")
    with train_seen_rows(model, IDS, PAD, wanted=False) as seen:
        assert seen is None
        assert isinstance(model.get_input_embeddings(), nn.Embedding)


@pytest.mark.parametrize("family", ["qwen2", "gemma3", "gpt2"])
def test_a_table_that_the_head_shares_or_of_another_make_is_trained_whole(tiny_models: Build, family: str) -> None:
    model = load_language_model(tiny_models(family)).model.requires_grad_(True)
    assert find_table(model) is None


def test_a_table_that_does_not_move_is_left_alone(tiny_models: Build) -> None:
    assert find_table(load(tiny_models, "bert").requires_grad_(False)) is None


def test_a_table_nearly_all_of_which_is_named_is_trained_whole(tiny_models: Build) -> None:
    model = load(tiny_models, "bert")
    every = np.arange(model.config.vocab_size, dtype=np.int32)
    with train_seen_rows(model, every, PAD) as seen:
        assert seen is None


def test_the_table_comes_back_after_an_error(tiny_models: Build) -> None:
    model = load(tiny_models, "bert")
    context = train_seen_rows(model, IDS, PAD)
    context.__enter__()
    assert isinstance(model.get_input_embeddings(), SeenRows)
    assert not context.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert type(model.get_input_embeddings()) is nn.Embedding
    assert model.get_input_embeddings().weight.requires_grad
