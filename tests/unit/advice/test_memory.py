"""Memory in parts that add up, and what makes each of them grow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from afina.techniques.registry import make_technique


def predict(subject: Any, technique: str, config: Any) -> Any:
    from afina.advice.costs import predict_costs

    return predict_costs(subject, make_technique(technique), config)


def test_parts_are_those_of_the_arithmetic(make_subject: Callable[..., Any], describe: Callable[..., Any]) -> None:
    from afina.advice.memory import FIRST_PASS_BYTES, LIBRARIES_BYTES, SOLVER_BYTES, TOKEN_BYTES

    # So many rows at once that training, not the proof at the end, is the peak.
    config = describe("full", gradient_accumulation_steps=2, per_device_train_batch_size=64)
    subject = make_subject()
    costs = predict(subject, "full", config)
    memory = costs.memory
    assert memory.weights >= 4 * costs.trainable
    assert memory.gradients == 4 * costs.trainable
    assert memory.optimizer == 8 * costs.trainable
    assert memory.loss == 0
    features = 64 * 32 * 4  # rows whose features the head is solved on
    vocabulary, width = subject.blueprint.config.vocab_size, 32
    largest = max(vocabulary, 128) * width * 4  # the table of token vectors or of positions
    libraries = LIBRARIES_BYTES + TOKEN_BYTES * vocabulary
    assert memory.overhead == libraries + FIRST_PASS_BYTES + SOLVER_BYTES + features + largest
    parts = (memory.weights, memory.gradients, memory.optimizer, memory.activations, memory.loss, memory.overhead)
    assert memory.total == sum(parts) == memory.needed


def test_half_of_the_smaller_one_is_spared_where_gradients_arent_accumulated(
    make_subject: Callable[..., Any], describe: Callable[..., Any]
) -> None:
    one, several = (
        predict(make_subject(), "full", describe("full", gradient_accumulation_steps=steps)).memory for steps in (1, 2)
    )
    assert one.activations > one.gradients
    assert one.activations == several.activations
    assert one.gradients == several.gradients // 2


def test_activations_grow_with_rows_and_tokens(make_subject: Callable[..., Any], describe: Callable[..., Any]) -> None:
    small = predict(make_subject(tokens=20), "full", describe("full", per_device_train_batch_size=4)).memory
    rows = predict(make_subject(tokens=20), "full", describe("full", per_device_train_batch_size=8)).memory
    tokens = predict(make_subject(tokens=40), "full", describe("full", per_device_train_batch_size=4)).memory
    assert rows.activations == pytest.approx(2 * small.activations, rel=0.02)
    assert tokens.activations > 2 * small.activations


def test_frozen_features_need_no_gradients_but_a_second_model(
    make_subject: Callable[..., Any], describe: Callable[..., Any]
) -> None:
    memory = predict(make_subject(), "feature-extraction", describe("feature-extraction")).memory
    assert memory.gradients == memory.optimizer == memory.loss == 0
    assert memory.overhead > memory.weights


def test_a_language_model_has_a_loss(make_subject: Callable[..., Any], describe: Callable[..., Any]) -> None:
    subject = make_subject("llama", is_language_model=True)
    full = predict(subject, "full", describe("full", True, per_device_train_batch_size=8)).memory
    lora = predict(subject, "lora", describe("lora", True, per_device_train_batch_size=8)).memory
    vocabulary, width = subject.blueprint.config.vocab_size, 32
    assert full.loss - lora.loss == 4 * vocabulary * width  # the gradient of the head's weight


def test_a_gpu_holds_no_libraries(make_subject: Callable[..., Any], describe: Callable[..., Any]) -> None:
    on_cpu, on_gpu = (
        predict(make_subject(device=device), "full", describe("full")).memory for device in ("cpu", "cuda")
    )
    assert on_gpu.overhead < on_cpu.overhead / 10
    assert on_gpu.weights == on_cpu.weights


def test_pages_of_the_models_file_are_resident_but_not_needed(
    make_subject: Callable[..., Any], describe: Callable[..., Any]
) -> None:
    """A tiny model's file is fp32: in fp32 what isn't quantised stays mapped, in bf16 it is copied."""
    in_fp32 = predict(make_subject("llama", is_language_model=True), "qlora", describe("qlora", True)).memory
    in_bf16 = predict(
        make_subject("llama", is_language_model=True, precision="bf16"), "qlora", describe("qlora", True)
    ).memory
    assert in_fp32.mapped > 0
    assert in_fp32.needed == in_fp32.total - in_fp32.mapped
    assert in_bf16.mapped == 0


@pytest.mark.parametrize("steps", [1, 2])
def test_copies_of_weights_take_room_and_their_gradients_half_of_it(
    steps: int, make_subject: Callable[..., Any], describe: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from afina.training import weight_copies

    monkeypatch.setattr(weight_copies, "load_library", object)
    subject = make_subject(precision="bf16")
    config = {"gradient_accumulation_steps": steps, "per_device_train_batch_size": 64}
    plain, copied = (
        predict(subject, "full", describe("full", compiled_kernels=wanted, **config)).memory for wanted in (False, True)
    )
    numbers = (copied.weights - plain.weights) // 2
    assert numbers > 0
    # Several passes are summed in fp32, one after another; of a single one half is spared beside activations.
    change = 2 * numbers if steps > 1 else -numbers
    assert copied.gradients - plain.gradients == change
    assert copied.optimizer == plain.optimizer
    assert copied.activations < plain.activations
    # LoRA has no copies of weights, whatever computes its layers; those of kernels keep less.
    with_kernels, without = (
        predict(subject, "lora", describe("lora", compiled_kernels=wanted)).memory for wanted in (True, False)
    )
    assert replace(with_kernels, activations=0) == replace(without, activations=0)
    assert with_kernels.activations <= without.activations


@pytest.mark.parametrize(
    ("technique", "training", "is_halved"),
    [("full", {}, True), ("full", {"side_by_side": False}, False), ("full", {"objective": "contrastive"}, False),
     ("qlora", {}, False)],
)  # fmt: skip
def test_halves_of_a_batch_are_padded_each_for_itself(
    technique: str, training: dict[str, Any], is_halved: bool, make_subject: Callable[..., Any],
    describe: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import numpy as np

    from afina.advice import costs

    monkeypatch.setattr(costs, "LEAST_PRODUCTS", 1.0)
    monkeypatch.setattr(costs.torch, "get_num_threads", lambda: 2)
    subject = make_subject()
    lengths = np.repeat([8, 40], 8)  # one batch of sixteen rows
    subject = replace(subject, workload=replace(subject.workload, lengths=lengths, train_rows=16))
    config = describe(technique, per_device_train_batch_size=16, **training)
    largest = costs._Prediction(subject, make_technique(technique), config).largest
    rows = 32 if training.get("objective") else 16
    assert (largest.rows, largest.tokens) == (rows, 40)
    assert largest.held == (8 * 8 + 8 * 40 if is_halved else rows * 40)
    whole = replace(subject, workload=replace(subject.workload, lengths=np.full(16, 40), train_rows=16))
    memory, of_whole = (predict(each, technique, config).memory for each in (subject, whole))
    assert (memory.activations < 0.61 * of_whole.activations) is is_halved


def test_rows_of_many_lengths_leave_more_between_them(
    make_subject: Callable[..., Any], describe: Callable[..., Any]
) -> None:
    import numpy as np

    from afina.advice.memory import RAGGED, RAGGED_BYTES, SCATTERED

    subject, config = make_subject(), describe("full", per_device_train_batch_size=8, gradient_accumulation_steps=2)
    lengths = np.repeat([40, 20, 30, 10], 8)
    ragged = replace(subject, workload=replace(subject.workload, lengths=lengths, train_rows=32))
    even = replace(subject, workload=replace(subject.workload, lengths=np.full(32, 40), train_rows=32))
    one, other = (predict(each, "full", config).memory for each in (ragged, even))
    assert one.activations == pytest.approx(other.activations * (1 + SCATTERED + RAGGED) / (1 + SCATTERED), rel=1e-6)
    assert one.overhead - other.overhead == RAGGED_BYTES
