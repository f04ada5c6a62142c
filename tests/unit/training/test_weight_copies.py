"""Training through bf16 copies: which layers have them, and that steps, checkpoints and resumed runs are the same.

Where the kernel wasn't compiled its plain form is what steps here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from afina.config.load import build_config
from afina.kernels.linear import CopiedLinear
from afina.models.load import load_classifier, load_language_model
from afina.techniques.base import iterate_trainable
from afina.training import weight_copies
from afina.training.best import restore_best
from afina.training.gradients import compute_gradient
from afina.training.loop import fit, train_step
from afina.training.not_finite import measure_rows
from afina.training.optim import AdamW, OnePassAdamW, make_optimizer
from afina.training.session import Session, resume_from, save_checkpoint, start_accelerator
from afina.training.weight_copies import find_copies, find_layers, suits_copies, train_weight_copies

HEAD = {"num_labels": 3}
WINDOW = [np.arange(8), np.arange(8, 13)]


@pytest.fixture
def open_bf16(open_session: Callable[..., Any]) -> Any:
    """`open_bf16(copies, **arguments)`: a session in bf16, whose model has copies or not until the test ends."""
    with ExitStack() as stack:

        def build(copies: bool, **arguments: Any) -> Session:
            session = open_session(**{"dropout": 0.1, "learning_rate": 1e-3, **arguments})
            session.accelerator = start_accelerator("cpu", "bf16")
            assert (stack.enter_context(train_weight_copies(session.model, wanted=copies)) > 0) == copies
            session.optimizer = make_optimizer(session.model, session.learning_rate, 0.1)
            assert isinstance(session.optimizer, OnePassAdamW) == copies
            return session

        yield build


def list_weights(session: Session) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in iterate_trainable(session.model)}


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor], start: dict[str, Tensor]) -> None:
    """Within a hundredth of what training did to the weights, all of them together."""
    difference = sum(float((found[name] - wanted[name]).square().sum()) for name in wanted) ** 0.5
    change = sum(float((start[name] - wanted[name]).square().sum()) for name in wanted) ** 0.5
    assert found.keys() == wanted.keys()
    assert change > 0
    assert difference < 1e-2 * change


@pytest.mark.parametrize("max_grad_norm", [0.0, 0.01])
def test_a_step_is_the_one_without_copies(open_bf16: Callable[..., Any], max_grad_norm: float) -> None:
    plain, copied = (open_bf16(copies, max_grad_norm=max_grad_norm) for copies in (False, True))
    start = list_weights(plain)
    wanted, found = (train_step(session, WINDOW[:1]) for session in (plain, copied))
    assert wanted is not None
    assert found is not None
    assert found["loss"] == wanted["loss"]  # the first forward pass is the same to the last bit
    assert found["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-5)
    assert wanted["grad_norm"] > 0.01
    for name, weight in list_weights(plain).items():
        torch.testing.assert_close(list_weights(copied)[name], weight, rtol=1e-4, atol=1e-7, msg=name)
    assert_close(list_weights(copied), list_weights(plain), start)


@pytest.mark.parametrize("family", ["bert", "modernbert", "albert", "llama", "gpt2"])
def test_a_training_ends_as_one_without_copies(open_session: Callable[..., Any], family: str) -> None:
    ends, start = [], {}
    for wanted in (False, True):
        session = open_session(family=family, folder=str(wanted), rows=16, epochs=2, dropout=0.0, learning_rate=1e-3)
        session.accelerator = start_accelerator("cpu", "bf16")
        start = list_weights(session)
        with train_weight_copies(session.model, wanted=wanted):
            session.optimizer = make_optimizer(session.model, 1e-3, 0.1)
            for step in range(4):
                train_step(session, [np.arange(4 * step, 4 * step + 4)])
        ends.append(list_weights(session))
        assert not any(isinstance(module, CopiedLinear) for module in session.model.modules())
    assert_close(ends[1], ends[0], start)


def test_sums_of_several_passes_are_in_fp32(open_bf16: Callable[..., Any]) -> None:
    plain, copied = (open_bf16(copies, dropout=0.0, per_device_train_batch_size=8) for copies in (False, True))
    for session in (plain, copied):
        compute_gradient(session, WINDOW)
    wanted = {name: p.grad for name, p in iterate_trainable(plain.model)}
    assert all(copy.grad is None for copy in find_copies(copied.model).values())
    for name, parameter in iterate_trainable(copied.model):
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert torch.equal(parameter.grad, wanted[name]), name


def test_a_gradient_of_the_weight_itself_counts_beside_that_of_its_copy(open_bf16: Callable[..., Any]) -> None:
    session = open_bf16(True)
    layer = next(module for module in session.model.modules() if isinstance(module, CopiedLinear))
    compute_gradient(session, WINDOW[:1])
    assert layer.weight_copy.tensor.grad is not None
    wanted = layer.weight_copy.tensor.grad.float() + 2.0
    layer.weight.grad = torch.full_like(layer.weight, 2.0)
    found = {id(parameter): gradient for parameter, _, gradient in session.optimizer.iterate_gradients()}
    torch.testing.assert_close(found[id(layer.weight)], wanted)


def test_nothing_is_left_of_a_gradient_that_was_dropped(open_bf16: Callable[..., Any]) -> None:
    session = open_bf16(True, max_grad_norm=1e-3)
    before = list_weights(session)
    measure_rows(session, np.arange(4))
    session.optimizer.clip(1.0, 0.5)
    session.optimizer.zero_grad(set_to_none=True)
    assert not list(session.optimizer.iterate_gradients())
    assert session.optimizer.factor == 1.0
    session.optimizer.step()
    assert all(torch.equal(before[name], weight) for name, weight in list_weights(session).items())


def test_a_resumed_run_ends_with_the_same_bits(open_bf16: Callable[..., Any]) -> None:
    settings = {"rows": 24, "epochs": 2, "per_device_train_batch_size": 4, "save_steps": 2, "max_grad_norm": 0.5}
    whole, cut = (open_bf16(True, folder=name, **settings) for name in ("whole", "cut"))
    start = list_weights(whole)
    fit(whole)
    for step in range(3):
        train_step(cut, [np.arange(4 * step, 4 * step + 4)])  # other steps, that leave other copies behind
    checkpoint = whole.store.find_whole()[0]
    assert 0 < checkpoint.state["step"] < whole.progress.step
    cut.store = whole.store
    resume_from(cut, checkpoint)
    fit(cut)
    assert cut.progress.step == whole.progress.step
    for name, weight in list_weights(whole).items():
        assert torch.equal(list_weights(cut)[name], weight), name
        assert not torch.equal(start[name], weight), name


def test_checkpoints_are_those_of_a_run_without_copies(open_bf16: Callable[..., Any]) -> None:
    """So that a run may go on where there is no kernel."""
    plain, copied = (open_bf16(copies, folder=str(copies)) for copies in (False, True))
    for session in (plain, copied):
        train_step(session, WINDOW[:1])
        session.progress.step = session.progress.window = 1
        save_checkpoint(session)
    for session, other in ((plain, copied), (copied, plain)):
        checkpoint = other.store.find_step(1)
        assert checkpoint is not None
        resume_from(session, checkpoint)
        assert {name: sorted(session.optimizer.state[p]) for name, p in iterate_trainable(session.model)} == {
            name: ["exp_avg", "exp_avg_sq", "step"] for name, _ in iterate_trainable(session.model)
        }
        assert train_step(session, WINDOW[1:]) is not None


def test_the_best_weights_are_what_is_evaluated_and_kept(open_bf16: Callable[..., Any]) -> None:
    session = open_bf16(True, per_device_train_batch_size=8)
    train_step(session, WINDOW[:1])
    session.progress.step = session.progress.best_step = 1
    save_checkpoint(session)
    wanted = session.objective.evaluate(session.model, session.accelerator)
    session.learning_rate = 0.1
    train_step(session, WINDOW[1:])
    assert session.objective.evaluate(session.model, session.accelerator) != wanted
    restore_best(session)
    assert session.objective.evaluate(session.model, session.accelerator) == wanted


def test_layers_are_the_linear_ones_that_move_and_share_nothing(tiny_models: Callable[[str], Path]) -> None:
    model: Any = load_classifier(tiny_models("bert"), HEAD, 0).model.requires_grad_(True)
    linear = [module for module in model.modules() if type(module) is nn.Linear]
    assert find_layers(model) == linear
    linear[0].weight.requires_grad_(False)
    linear[1].weight = linear[2].weight
    linear[3].double()
    assert find_layers(model) == linear[4:]
    assert not find_layers(model.requires_grad_(False))


def test_the_head_of_a_language_model_has_none(tiny_models: Callable[[str], Path]) -> None:
    model: Any = load_language_model(tiny_models("llama")).model.requires_grad_(True)
    found = find_layers(model)
    assert len(found) > 5
    assert model.get_output_embeddings() not in found


def test_layers_come_back_after_an_error(tiny_models: Callable[[str], Path]) -> None:
    model = load_classifier(tiny_models("bert"), HEAD, 0).model.requires_grad_(True)
    context = train_weight_copies(model)
    context.__enter__()
    assert isinstance(make_optimizer(model, 0.1, 0.1), OnePassAdamW)
    assert not context.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert type(make_optimizer(model, 0.1, 0.1)) is AdamW


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"device": "cuda"}, False),
        ({"precision": "fp32"}, False),
        ({"moves": "adapter"}, False),
        ({"compiled_kernels": False}, False),
        ({"library": None}, False),
    ],
)
def test_copies_are_for_full_in_bf16_on_a_cpu_with_the_kernel(
    changed: dict[str, Any], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {
        "device": "cpu",
        "precision": "bf16",
        "moves": "all",
        "compiled_kernels": True,
        "library": object(),
        **changed,
    }
    monkeypatch.setattr(weight_copies, "load_library", lambda library=run.pop("library"): library)
    training = build_config({"training": {"compiled_kernels": run.pop("compiled_kernels")}}).training
    assert suits_copies(training, **run) == expected
