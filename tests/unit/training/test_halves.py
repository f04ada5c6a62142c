"""Halves of a batch side by side: the gradient of the whole, the same bits each time; and where there are none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from afina.kernels.dropout import KeyedDropout
from afina.kernels.lanes import LANES, allow_lanes, open_lanes
from afina.kernels.native import load_layer_kernels
from afina.models.four_bits import has_bitsandbytes
from afina.techniques.base import checkpoint_activations
from afina.testing.models import DECODERS, ENCODERS
from afina.training import halves
from afina.training.contrastive import ContrastiveRows
from afina.training.gradients import compute_gradient
from afina.training.halves import Halves, add_halves, count_layers, count_weights, plan_halves, shares_chance
from afina.training.loop import fit
from afina.training.optim import make_optimizer
from afina.training.session import start_accelerator
from afina.training.weight_copies import train_weight_copies

WINDOW = [np.arange(7), np.arange(7, 12)]


@pytest.fixture(autouse=True)
def _small_batches_are_halved(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(halves, "LEAST_PRODUCTS", 0)
    torch.set_num_threads(2)
    yield
    allow_lanes(True)


def halve(session: Any) -> Any:
    """The session with its batches in halves; the adapter's dropout, which rules them out, is switched off."""
    switch_off_dropout(session)
    session.halves = plan_halves(session.model, session.objective, "cpu")
    assert session.halves is not None
    return session


def switch_off_dropout(session: Any) -> Any:
    for module in session.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return session


def take_gradients(session: Any, window: Any) -> tuple[Any, list[torch.Tensor]]:
    found = compute_gradient(session, window)
    return found, [p.grad.clone() for p in session.model.parameters() if p.grad is not None]


@pytest.mark.parametrize("family", ENCODERS)
@pytest.mark.parametrize("technique", ["full", "lora"])
def test_the_gradient_is_that_of_the_whole(family: str, technique: str, open_session: Callable[..., Any]) -> None:
    whole, expected = take_gradients(switch_off_dropout(open_session(technique, family=family)), WINDOW)
    found, gradients = take_gradients(halve(open_session(technique, family=family)), WINDOW)
    assert found.loss == pytest.approx(whole.loss, rel=1e-6)
    assert found.norm == pytest.approx(whole.norm, rel=1e-5)
    assert len(gradients) == len(expected)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_a_training_has_the_same_bits_each_time(kind: str, open_session: Callable[..., Any]) -> None:
    states = []
    for folder in ("a", "b"):
        session = halve(open_session("full", kind, folder=folder, per_device_train_batch_size=5))
        fit(session)
        states.append(session.model.state_dict())
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


@pytest.mark.parametrize("family", DECODERS)
def test_language_models_have_the_gradient_of_the_whole(
    family: str, tiny_models: Callable[[str], Any], language_rows: Any
) -> None:
    from transformers import AutoModelForCausalLM

    accelerator, rows = start_accelerator("cpu", "fp32"), np.arange(len(language_rows.lengths))
    model = AutoModelForCausalLM.from_pretrained(tiny_models(family), dtype=torch.float32).eval()
    optimizer = make_optimizer(model, 1e-3, 0.0)
    loss = language_rows.sum_losses(model, rows, accelerator) / 3
    loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    found: list[dict[str, torch.Tensor]] = []
    for _ in range(3):
        optimizer.zero_grad()
        with open_lanes(LANES) as lanes:
            parts = Halves(1.0).cut(rows, language_rows.lengths)
            total = add_halves(model, language_rows, accelerator, optimizer, parts, 3, lanes)
        assert len(parts) == 2
        assert float(total) == pytest.approx(float(loss.detach()), rel=1e-5)
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == expected.keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5)
        assert all(torch.equal(gradient, each[name]) for each in found[1:]), name


def test_gradients_of_copies_are_added_in_fp32(open_session: Callable[..., Any]) -> None:
    session = open_session("full")
    with train_weight_copies(session.model) as copied:
        optimizer = make_optimizer(session.model, 1e-3, 0.0)
        accelerator, objective = start_accelerator("cpu", "bf16"), session.objective
        objective.sum_losses(session.model, np.arange(8), accelerator).backward()
        expected = {id(p): gradient.float() for p, _, gradient in optimizer.iterate_gradients()}  # type: ignore[attr-defined]
        optimizer.zero_grad()
        with open_lanes(LANES) as lanes:
            parts = [np.arange(3), np.arange(3, 8)]
            add_halves(session.model, objective, accelerator, optimizer, parts, 1.0, lanes)
        found = list(optimizer.iterate_gradients())  # type: ignore[attr-defined]
    assert copied
    assert {gradient.dtype for _, _, gradient in found} == {torch.float32}
    for parameter, _, gradient in found:
        largest = float(expected[id(parameter)].abs().max())
        torch.testing.assert_close(gradient, expected[id(parameter)], rtol=5e-2, atol=max(2e-2 * largest, 1e-6))


def test_an_error_of_one_half_comes_out_when_both_have_ended(open_session: Callable[..., Any]) -> None:
    session = halve(open_session())
    plain, ended, begun = session.objective.sum_losses, [], threading.Barrier(2)

    class Failing:
        is_sum, lengths, weigh = True, session.objective.lengths, session.objective.weigh

        def sum_losses(self, model: nn.Module, rows: Any, accelerator: Any) -> torch.Tensor:
            begun.wait(timeout=60)  # one that fails before the other has begun spares it
            loss = plain(model, rows, accelerator)
            ended.append(len(rows))
            if len(ended) == 1:
                raise ValueError("one half")
            return loss  # type: ignore[no-any-return]

    session.objective = Failing()
    with pytest.raises(ValueError, match="one half"):
        compute_gradient(session, [np.arange(6)])
    assert sum(ended) == 6


def test_memory_that_runs_out_halves_the_pass(open_session: Callable[..., Any]) -> None:
    session = halve(open_session(per_device_train_batch_size=8))
    plain, sizes = session.objective, []

    class Large:
        is_sum, lengths, weigh = True, plain.lengths, plain.weigh

        def sum_losses(self, model: nn.Module, rows: Any, accelerator: Any) -> torch.Tensor:
            sizes.append(len(rows))
            if len(rows) > 3:
                raise MemoryError
            return plain.sum_losses(model, rows, accelerator)  # type: ignore[no-any-return]

    session.objective = Large()
    found = compute_gradient(session, [np.arange(8)])
    assert session.progress.rows_per_pass == 4
    assert found.loss == pytest.approx(compute_gradient(open_session(), [np.arange(8)]).loss, rel=1e-5)


def test_small_batches_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "LEAST_PRODUCTS", 1000)
    lengths = np.asarray([10, 2, 10, 5])
    assert [part.tolist() for part in Halves(10.0).cut(np.asarray([1, 3]), lengths)] == [[1, 3]]
    assert [part.tolist() for part in Halves(50.0).cut(np.asarray([0, 1, 2, 3]), lengths)] == [[1, 3], [0, 2]]


def test_no_halves_without_a_sum_or_threads_or_the_setting(open_session: Callable[..., Any]) -> None:
    session = open_session()
    assert plan_halves(session.model, ContrastiveRows(session.objective), "cpu") is None
    assert plan_halves(session.model, session.objective, "cuda") is None
    allow_lanes(False)
    assert plan_halves(session.model, session.objective, "cpu") is None
    allow_lanes(True)
    assert plan_halves(session.model, session.objective, "cpu") is not None
    torch.set_num_threads(1)
    assert plan_halves(session.model, session.objective, "cpu") is None


def test_no_halves_with_dropout_of_torch(open_session: Callable[..., Any]) -> None:
    assert not shares_chance(open_session().model)
    session = open_session(dropout=0.1)
    for module in session.model.modules():
        if isinstance(module, KeyedDropout):
            module.__class__ = nn.Dropout
    assert shares_chance(session.model)
    assert plan_halves(session.model, session.objective, "cpu") is None
    assert not shares_chance(nn.Sequential(nn.Dropout(0.0)))
    attention = nn.Module()
    attention.attention_dropout = 0.1  # type: ignore[assignment]
    assert shares_chance(nn.Sequential(attention))


def test_no_halves_where_keys_would_be_drawn_again(open_session: Callable[..., Any]) -> None:
    session = open_session("lora")
    assert shares_chance(session.model) is (load_layer_kernels() is None)
    checkpoint_activations(session.model)
    assert shares_chance(session.model)


@pytest.mark.skipif(load_layer_kernels() is None, reason="no kernel draws the dropout here")
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_adapters_with_dropout_have_the_same_bits_each_time(family: str, open_session: Callable[..., Any]) -> None:
    """Whichever half comes first: each draws by itself. Another step draws other places."""

    def take(step: int) -> list[torch.Tensor]:
        session = open_session("lora", family=family)
        session.halves = plan_halves(session.model, session.objective, "cpu")
        assert session.halves is not None
        session.progress.step = step
        return take_gradients(session, WINDOW)[1]

    def are_equal(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
        return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))

    expected = take(step=0)
    assert all(are_equal(take(step=0), expected) for _ in range(4))
    assert not are_equal(take(step=1), expected)


@pytest.mark.skipif(not has_bitsandbytes(), reason="bitsandbytes isn't installed")
def test_no_halves_of_weights_in_4_bits(open_session: Callable[..., Any]) -> None:
    for technique, is_halved in (("lora", True), ("qlora", False)):
        session = open_session(technique)
        switch_off_dropout(session)
        assert (plan_halves(session.model, session.objective, "cpu") is not None) == is_halved


def test_weights_of_a_layer(open_session: Callable[..., Any]) -> None:
    table = nn.Embedding(100, 4)
    model = nn.Sequential(table, nn.Linear(4, 6), nn.Linear(6, 2))
    model.get_input_embeddings = lambda: table  # type: ignore[assignment]
    assert count_weights(model) == 4 * 6 + 6 * 2
    config = SimpleNamespace(num_hidden_layers=3)
    model.config = SimpleNamespace(get_text_config=lambda: config)  # type: ignore[assignment]
    assert count_layers(model) == 3
    real = open_session().model
    assert count_layers(real) == real.config.num_hidden_layers
