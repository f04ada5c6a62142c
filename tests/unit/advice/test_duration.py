"""Time from arithmetic: which technique does which work, and what it is multiplied by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from afina.techniques.registry import make_technique

SIZES: dict[str, Any] = {
    "parameters": 1100, "trainable": 1100, "stepped": 1100, "copied": 0, "largest_stepped": 100, "weight_bytes": 4400,
    "quantised": 0, "mapped_bytes": 0, "reread_bytes": 0, "multiplied": 1000, "adapter": 0, "dropped": 0, "head": 0,
    "head_trains": True, "vocabulary": 10, "hidden_size": 10, "layers": 2, "attention_width": 10,
}  # fmt: skip


def test_products_a_token_are_six_two_and_four_for_each_number() -> None:
    from afina.advice.duration import count_forward, count_training
    from afina.advice.outline import Outline

    found = Outline(**SIZES)
    assert count_forward(found, 3, 5, 0).products == 2 * 1000 * 15
    assert count_training(found, "all", 3, 5, 0, 0, False).products == 6 * 1000 * 15
    assert count_training(found, "adapter", 3, 5, 0, 0, False).products == 4 * 1000 * 15
    assert count_training(found, "all", 3, 5, 0, 0, True).products == 8 * 1000 * 15


def test_attention_grows_with_the_square_of_the_tokens() -> None:
    from afina.advice.duration import count_forward
    from afina.advice.outline import Outline

    found = Outline(**SIZES)
    assert count_forward(found, 1, 20, 0).attention == 4 * count_forward(found, 1, 10, 0).attention
    assert count_forward(found, 1, 10, 0).attention == 4 * 10 * 2 * 10**2


def test_a_step_moves_28_bytes_for_each_trainable_number() -> None:
    from afina.advice.duration import count_step
    from afina.advice.outline import Outline

    assert count_step(Outline(**SIZES)).optimizer == 28 * 1100


def test_a_run_is_its_epochs_and_what_comes_before_and_after(
    make_subject: Callable[..., Any], describe: Callable[..., Any]
) -> None:
    from afina.advice.costs import predict_costs

    one, three = (
        predict_costs(make_subject(), make_technique("full"), describe("full", num_train_epochs=epochs)).durations
        for epochs in (1, 3)
    )
    assert one is not None
    assert three is not None
    assert one.epoch == three.epoch
    assert three.total - one.total == pytest.approx(2 * one.epoch)


def test_steps_count_as_the_epochs_that_they_make_up(
    make_subject: Callable[..., Any], describe: Callable[..., Any]
) -> None:
    from afina.advice.costs import predict_costs

    def predict(**training: Any) -> Any:
        config = describe("full", per_device_train_batch_size=16, **training)  # 4 steps an epoch
        return predict_costs(make_subject(), make_technique("full"), config).durations

    assert predict(max_steps=8) == predict(num_train_epochs=2)
    half, one = predict(max_steps=2), predict(max_steps=4)
    assert half.total < one.total
    often = predict(max_steps=4, eval_steps=1)  # three evaluations more
    assert often.total - one.total == pytest.approx(often.epoch - one.epoch)
    assert often.epoch > one.epoch


def test_a_machine_without_rates_has_no_durations(
    make_subject: Callable[..., Any], describe: Callable[..., Any]
) -> None:
    from afina.advice.costs import as_dict, predict_costs

    costs = predict_costs(make_subject(timed=False), make_technique("lora"), describe("lora"))
    assert costs.durations is None
    assert costs.step_seconds is None
    assert as_dict(costs)["seconds"] is None


def test_twice_the_rows_take_twice_the_steps(make_subject: Callable[..., Any], describe: Callable[..., Any]) -> None:
    from afina.advice.costs import predict_costs

    few, many = (predict_costs(make_subject(rows=rows), make_technique("full"), describe("full")) for rows in (64, 128))
    assert many.step_seconds == pytest.approx(few.step_seconds)
    assert few.durations is not None
    assert many.durations is not None
    assert many.durations.epoch > few.durations.epoch


def test_with_amx_less_of_a_step_is_products(make_subject: Callable[..., Any], describe: Callable[..., Any]) -> None:
    from afina.advice.costs import predict_costs
    from afina.advice.factors import WITH_AMX, WITHOUT_AMX

    subject, technique = make_subject(precision="bf16"), make_technique("full")
    machine = subject.machine
    costs = {}
    for has_amx in (False, True):
        changed = replace(machine, rates=replace(machine.rates, has_amx=has_amx))
        costs[has_amx] = predict_costs(replace(subject, machine=changed), technique, describe("full"))
    assert costs[True].terms == costs[False].terms
    for has_amx, factors in ((False, WITHOUT_AMX), (True, WITH_AMX)):
        known = factors.as_dict()
        wanted = sum(seconds * known[kind] for kind, seconds in costs[has_amx].terms.items())
        assert costs[has_amx].step_seconds == pytest.approx(wanted)
        assert costs[has_amx].durations is not None
    assert costs[True].durations != costs[False].durations


@pytest.mark.parametrize(("device", "kernels"), [("cpu", True), ("cpu", False), ("cuda", True)])
def test_torchs_dropout_before_adapters_takes_time_for_each_of_their_inputs(
    device: str, kernels: bool, make_subject: Callable[..., Any], describe: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A kernel's takes next to none, on this processor; a GPU draws torch's."""
    from afina.advice import adapters
    from afina.advice.costs import predict_costs

    monkeypatch.setattr(adapters, "load_layer_kernels", lambda: kernels or None)
    config, subject = describe("lora"), make_subject(rows=16, tokens=10, device=device)
    found = {}
    for dropout in (0.0, 0.1):
        lora = config.lora.model_copy(update={"lora_dropout": dropout, "target_modules": ["query", "value"]})
        changed = config.model_copy(update={"lora": lora})
        found[dropout] = predict_costs(subject, make_technique("lora"), changed).terms["dropped"]
    rows = config.training.per_device_train_batch_size
    # Layers, targets, their inputs, tokens of a step.
    assert found == {0.0: 0, 0.1: 0 if kernels and device == "cpu" else 2 * 2 * 32 * rows * 10}
