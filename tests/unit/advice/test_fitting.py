"""Whether a run fits, and what makes it fit without another result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from afina.advice.fitting import find_remedy, fits
from afina.errors import ConfigError
from afina.techniques.registry import make_technique


def need(subject: Any, technique: str, config: Any) -> int:
    from afina.advice.costs import predict_costs

    return int(predict_costs(subject, make_technique(technique), config).memory.needed)


def test_a_twentieth_is_left_free(make_subject: Callable[..., Any], describe: Callable[..., Any]) -> None:
    from afina.advice.costs import predict_costs

    costs = predict_costs(make_subject(), make_technique("full"), describe("full"))
    assert fits(costs, int(costs.memory.needed / 0.94))
    assert not fits(costs, int(costs.memory.needed / 0.96))


def test_smaller_passes_of_an_equal_step_come_first(
    make_subject: Callable[..., Any], describe: Callable[..., Any]
) -> None:
    subject = make_subject("llama", rows=64, tokens=60, device="cuda")
    config = describe("full", per_device_train_batch_size=12, gradient_accumulation_steps=2)
    technique = make_technique("full")
    subject = replace(subject, blueprint=subject.blueprint.with_layers(64))  # so that activations outweigh the rest
    three = describe("full", per_device_train_batch_size=3, gradient_accumulation_steps=8)
    available = int(need(subject, "full", three) / 0.95) + 2
    remedy = find_remedy(subject, technique, config, available)
    assert remedy is not None
    assert remedy.settings == {
        "training.per_device_train_batch_size": 3, "training.gradient_accumulation_steps": 8
    }  # fmt: skip
    assert remedy.as_flags() == (
        "--set training.per_device_train_batch_size=3 --set training.gradient_accumulation_steps=8"
    )
    assert fits(remedy.costs, available)


def test_activations_are_computed_again_where_that_is_not_enough(
    make_subject: Callable[..., Any], describe: Callable[..., Any]
) -> None:
    subject = make_subject("llama", rows=64, tokens=60, device="cuda")
    subject = replace(subject, blueprint=subject.blueprint.with_layers(64))
    alone = describe("lora", per_device_train_batch_size=1, gradient_accumulation_steps=16)
    again = describe("lora", per_device_train_batch_size=1, gradient_accumulation_steps=16, gradient_checkpointing=True)
    available = int((need(subject, "lora", alone) + need(subject, "lora", again)) / 2 / 0.95)
    remedy = find_remedy(subject, make_technique("lora"), describe("lora", per_device_train_batch_size=16), available)
    assert remedy is not None
    assert remedy.settings["training.gradient_checkpointing"] is True
    assert remedy.as_flags().endswith("--set training.gradient_checkpointing=true")


@pytest.mark.parametrize("technique", ["full", "feature-extraction", "lora", "qlora"])
def test_nothing_helps_where_the_weights_alone_are_too_many(
    technique: str, make_subject: Callable[..., Any], describe: Callable[..., Any]
) -> None:
    assert find_remedy(make_subject(), make_technique(technique), describe(technique), 2**20) is None


@pytest.mark.parametrize("family", ["albert", "mpnet"])
def test_what_a_model_cannot_do_is_not_advised(
    family: str, make_subject: Callable[..., Any], describe: Callable[..., Any]
) -> None:
    """These have no checkpoints of activations in transformers."""
    subject = make_subject(family, rows=64, tokens=100)
    alone = describe("full", per_device_train_batch_size=1, gradient_accumulation_steps=16)
    available = int(need(subject, "full", alone) / 0.95) - 2**10
    config = describe("full", per_device_train_batch_size=16)
    assert find_remedy(subject, make_technique("full"), config, available) is None
    with pytest.raises(ConfigError, match="can't compute activations again in the backward pass"):
        need(subject, "full", describe("full", gradient_checkpointing=True))
    assert need(subject, "feature-extraction", describe("feature-extraction", gradient_checkpointing=True)) > 0
