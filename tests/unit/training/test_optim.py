"""Matrices decay and vectors don't; the learning rate is a function of the step."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from afina.config.load import build_config
from afina.training.optim import learning_rate_at, make_optimizer, set_learning_rate


def make_model() -> nn.Module:
    return nn.ModuleDict(
        {"a": nn.Linear(3, 4), "norm": nn.LayerNorm(4), "frozen": nn.Linear(2, 2), "e": nn.Embedding(5, 3)}
    )


def make_config(**training: Any) -> Any:
    return build_config({"training": training}).training


def test_groups_hold_what_moves_once() -> None:
    model = make_model()
    model["frozen"].requires_grad_(False)  # type: ignore[index]
    optimizer = make_optimizer(model, 0.5, 0.25)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {group["weight_decay"]: sorted(names[id(p)] for p in group["params"]) for group in optimizer.param_groups}
    assert groups == {0.25: ["a.weight", "e.weight"], 0.0: ["a.bias", "norm.bias", "norm.weight"]}
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}
    set_learning_rate(optimizer, 0.125)
    assert {group["lr"] for group in optimizer.param_groups} == {0.125}


def test_a_group_without_members_is_left_out() -> None:
    model = nn.Linear(3, 4, bias=False)
    assert [len(group["params"]) for group in make_optimizer(model, 0.5, 0.25).param_groups] == [1]


def test_a_step_is_that_of_adamw() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    optimizer = make_optimizer(model, 0.1, 0.5)
    model.weight.grad, model.bias.grad = torch.full_like(weight, 2.0), torch.full_like(bias, -3.0)
    optimizer.step()
    # The first step of Adam is the sign of the gradient times the rate; decay comes first and spares the bias.
    torch.testing.assert_close(model.weight.detach(), weight * (1 - 0.1 * 0.5) - 0.1)
    torch.testing.assert_close(model.bias.detach(), bias + 0.1)


@pytest.mark.parametrize(
    ("shape", "rates"),
    [
        ("linear", [1 / 3, 2 / 3, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        ("constant", [1 / 3, 2 / 3] + [1.0] * 8),
        ("cosine", [1 / 3, 2 / 3] + [0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)]),
    ],
)
def test_the_shape_of_the_rate(shape: str, rates: list[float]) -> None:
    config = make_config(lr_scheduler_type=shape, warmup_ratio=0.2)
    assert [learning_rate_at(step, 10, 4.0, config) for step in range(10)] == pytest.approx([4 * r for r in rates])


@settings(max_examples=60, deadline=None)
@given(
    total=st.integers(1, 400),
    ratio=st.floats(0.0, 0.99),
    shape=st.sampled_from(["linear", "cosine", "constant"]),
)
def test_the_rate_rises_then_never_rises_and_no_step_is_wasted(total: int, ratio: float, shape: str) -> None:
    config = make_config(lr_scheduler_type=shape, warmup_ratio=ratio)
    rates = [learning_rate_at(step, total, 1.0, config) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates)
    warmup = math.ceil(ratio * total)
    assert all(a < b for a, b in pairwise(rates[: warmup + 1]))
    assert all(a >= b for a, b in pairwise(rates[warmup:]))
    if warmup < total:
        assert rates[warmup] == 1.0
