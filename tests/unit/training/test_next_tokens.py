"""The loss of a language model: that of transformers, the same however rows are divided into batches or packed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from afina.data.encode import TokenArrays
from afina.data.encode_conversations import TrainedRows
from afina.data.packing import pack_rows
from afina.models.language_head import SplitLanguageModel, compare_with_forward, split_language_model
from afina.models.load import load_language_model
from afina.testing.models import DECODERS
from afina.training.next_tokens import NextTokens
from afina.training.session import start_accelerator

LENGTHS = [5, 12, 3, 20, 8, 9, 2, 15]


def make_rows(seed: int = 0, vocabulary: int = 200) -> TrainedRows:
    """Rows of many lengths whose last two thirds are learned; among the tokens is the one that pads."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, vocabulary, sum(LENGTHS)).astype(np.int32)
    marks = np.asarray([place >= max(1, length // 3) for length in LENGTHS for place in range(length)], np.uint8)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64)
    return TrainedRows("train", TokenArrays(ids, offsets, None, 0, 0), marks, np.arange(1, len(LENGTHS) + 1))


def make_objective(**changes: Any) -> NextTokens:
    return replace(NextTokens(make_rows(), make_rows(1), pad_id=2, eval_tokens_per_batch=32), **changes)


@pytest.fixture
def load(tiny_models: Callable[[str], Path]) -> Callable[[str], Any]:
    """`load(family)`: a tiny language model."""
    return lambda family: load_language_model(tiny_models(family)).model.eval()


def test_rows_of_one_conversation_count_as_one(load: Callable[[str], Any]) -> None:
    rows, model, accelerator = make_rows(), load("llama"), start_accelerator("cpu", "fp32")
    apart = make_objective().measure(model, rows, accelerator)
    split = replace(rows, row_numbers=np.asarray([1, 1, 2, 3, 3, 3, 4, 5]))
    joined = make_objective().measure(model, split, accelerator)
    assert joined.tokens_N.tolist() == [sum(apart.tokens_N[a:b]) for a, b in ((0, 2), (2, 3), (3, 6), (6, 7), (7, 8))]
    assert joined.summarise() == pytest.approx(apart.summarise())


def take_gradient(model: Any) -> torch.Tensor:
    """The gradient in one vector, which is then taken back."""
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).clone()
    model.zero_grad(set_to_none=True)
    return gradient


@pytest.mark.parametrize("family", DECODERS)
def test_the_loss_is_that_of_transformers(family: str, load: Callable[[str], Any]) -> None:
    model, objective, accelerator = load(family), make_objective(), start_accelerator("cpu", "fp32")
    rows = np.arange(len(LENGTHS))
    batch = objective.collate(rows)
    labels = torch.full(batch.inputs["input_ids"].shape, -100)
    labels.view(-1)[batch.places_K + 1] = batch.targets_K
    wanted = model(**batch.inputs, labels=labels).loss
    loss = objective.sum_losses(model, rows, accelerator) / objective.weigh(rows)
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    wanted.backward()
    expected = take_gradient(model)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(take_gradient(model), expected, atol=1e-6, rtol=1e-5)


def test_four_small_batches_are_one_large(load: Callable[[str], Any]) -> None:
    model, objective, accelerator = load("llama"), make_objective(), start_accelerator("cpu", "fp32")
    gradients = []
    for windows in ([[0, 1, 2, 3, 4, 5, 6]], [[0, 1], [2, 3], [4, 5], [6]]):
        total = sum(objective.weigh(np.asarray(rows)) for rows in windows)
        for rows in windows:
            (objective.sum_losses(model, np.asarray(rows), accelerator) / total).backward()  # type: ignore[no-untyped-call]
        gradients.append(take_gradient(model))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", DECODERS)
def test_packed_rows_are_rows_alone(family: str, load: Callable[[str], Any]) -> None:
    model, accelerator = load(family), start_accelerator("cpu", "fp32")
    alone = make_objective()
    packed = make_objective(packs=pack_rows(alone.train.tokens.lengths, 30))
    assert packed.packs is not None
    assert len(packed.packs) < len(LENGTHS) / 2
    found = {}
    for name, objective in (("alone", alone), ("packed", packed)):
        units = np.arange(len(objective.lengths))
        assert sorted(objective.name_rows(units)) == list(range(1, len(LENGTHS) + 1))
        loss = objective.sum_losses(model, units, accelerator) / objective.weigh(units)
        loss.backward()  # type: ignore[no-untyped-call]
        found[name] = (loss.detach(), take_gradient(model))
    torch.testing.assert_close(found["packed"], found["alone"], atol=1e-5, rtol=1e-5)


def test_the_same_weights_have_the_same_scores(load: Callable[[str], Any]) -> None:
    model, objective, accelerator = load("llama"), make_objective(), start_accelerator("cpu", "fp32")
    first = objective.evaluate(model, accelerator)
    model.train()
    objective.sum_losses(model, np.arange(3), accelerator)
    assert objective.evaluate(model, accelerator) == first


def test_evaluation_gives_each_row_its_own(load: Callable[[str], Any]) -> None:
    model, objective, accelerator = load("qwen2"), make_objective(), start_accelerator("cpu", "fp32")
    counts = objective.measure(model, objective.train, accelerator)
    for row in range(len(LENGTHS)):
        alone = float(objective.sum_losses(model, np.asarray([row]), accelerator).detach())
        assert counts.losses_N[row] == pytest.approx(alone, rel=1e-5)
    assert counts.tokens_N.tolist() == objective.train.trained_counts.tolist()
    scores = counts.summarise()
    assert scores["loss"] == pytest.approx(counts.losses_N.sum() / counts.tokens_N.sum())
    assert scores["perplexity"] == pytest.approx(np.exp(scores["loss"]))
    assert objective.rank({"loss": 1.0}) > objective.rank({"loss": 2.0})


def test_a_head_that_is_not_the_models_would_be_noticed(load: Callable[[str], Any]) -> None:
    model, objective = load("llama"), make_objective()
    batch, head = objective.collate(np.arange(4)), split_language_model(model)
    halves, whole = compare_with_forward(model, head, batch)
    assert halves == pytest.approx(whole, rel=1e-5)
    scaled, whole = compare_with_forward(model, replace(head, scale=2.0), batch)
    assert scaled != pytest.approx(whole, rel=1e-2)


def test_without_halves_the_whole_gives_the_same(load: Callable[[str], Any]) -> None:
    model, accelerator, rows = load("gpt2"), start_accelerator("cpu", "fp32"), np.arange(len(LENGTHS))
    halves, whole = (
        make_objective(uses_full_forward=is_full).sum_losses(model, rows, accelerator).item()
        for is_full in (False, True)
    )
    assert halves == pytest.approx(whole, rel=1e-6)
    assert make_objective(uses_full_forward=True).split_model(model) == SplitLanguageModel(model, None)
