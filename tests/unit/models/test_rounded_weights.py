"""Weights are rounded once for many passes: the same numbers, and a model that is as it was afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from afina.kernels.linear import CopiedLinear
from afina.models.load import load_classifier
from afina.models.rounded_weights import find_linear_layers, round_weights

HEAD = {"num_labels": 3, "problem_type": "single_label_classification"}


@pytest.fixture
def model(tiny_models: Callable[[str], Path]) -> Any:
    torch.manual_seed(0)
    return load_classifier(tiny_models("distilbert"), HEAD, 0).model.eval()


def compute(model: Any) -> torch.Tensor:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return model(input_ids=torch.arange(3, 21).view(2, 9)).logits  # type: ignore[no-any-return]


def test_logits_are_the_same_to_the_bit(model: Any) -> None:
    wanted, layers = compute(model), find_linear_layers(model)
    assert len(layers) > 10
    with round_weights(model, device="cpu", precision="bf16", passes=2):
        assert all(isinstance(layer, CopiedLinear) for layer in layers)
        assert torch.equal(compute(model), wanted)
    assert not any(isinstance(module, CopiedLinear) for module in model.modules())
    assert torch.equal(compute(model), wanted)


def test_an_error_leaves_ordinary_layers(model: Any) -> None:
    with pytest.raises(ValueError, match="broken"), round_weights(model, device="cpu", precision="bf16", passes=2):
        raise ValueError("broken")
    assert not any(isinstance(module, CopiedLinear) for module in model.modules())


@pytest.mark.parametrize("other", [{"device": "cuda"}, {"precision": "fp32"}, {"passes": 1}], ids=str)
def test_only_where_it_is_worth_it(other: dict[str, Any], model: Any) -> None:
    with round_weights(model, **{"device": "cpu", "precision": "bf16", "passes": 2, **other}):
        assert not any(isinstance(module, CopiedLinear) for module in model.modules())


def test_layers_that_are_no_plain_ones_are_left_alone() -> None:
    class Mine(nn.Linear):
        """Of another make."""

    tied = nn.Linear(4, 4)
    model = nn.Sequential(tied, Mine(4, 4), nn.Linear(4, 4), nn.Linear(4, 4).bfloat16())
    model.add_module("again", nn.Linear(4, 4))
    model.again.weight = tied.weight
    assert find_linear_layers(model) == [model[2]]
