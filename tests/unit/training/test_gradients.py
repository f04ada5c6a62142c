"""Where memory runs out, passes become smaller and steps stay what they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from afina.data.batches import Indices
from afina.data.packing import pack_rows
from afina.errors import TrainingError
from afina.models.load import load_language_model
from afina.models.shortage import MemoryNearlyFull
from afina.techniques.base import iterate_trainable
from afina.training.events import Callback, Incident
from afina.training.gradients import compute_gradient, cut_passes
from afina.training.loop import eval_step, fit, train_step
from afina.training.optim import make_optimizer
from afina.training.session import Progress, Session, resume_from

SHORTAGES = {
    "the GPU is out of memory": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "memory ran out": RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
    "memory is more than 92% full": MemoryNearlyFull(),
}
WINDOW = [np.arange(8), np.arange(8, 13)]


class Listener(Callback):
    def __init__(self) -> None:
        self.incidents: list[Incident] = []

    def on_incident(self, step: int, incident: Incident) -> None:
        self.incidents.append(incident)


def limit_rows(session: Session, most: int, error: BaseException) -> list[list[int]]:
    """Let passes of more rows than that fail, after their backward; gives the rows of all passes as they come."""
    objective: Any = session.objective
    sum_losses, passes = objective.sum_losses, []

    def sum_limited(model: Any, rows: Indices, accelerator: Any) -> torch.Tensor:
        passes.append(rows.tolist())
        if len(rows) > most:
            raise error
        return sum_losses(model, rows, accelerator)

    object.__setattr__(objective, "sum_losses", sum_limited)
    return passes


def take_gradient(session: Session) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for _, p in iterate_trainable(session.model) if p.grad is not None]).clone()


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_the_step_is_the_same_in_smaller_passes(shortage: str, open_session: Callable[..., Any]) -> None:
    plain, session = (open_session(per_device_train_batch_size=8, dropout=0.0) for _ in range(2))
    wanted = compute_gradient(plain, WINDOW)
    listener = Listener()
    session.callbacks = (listener,)
    passes = limit_rows(session, 2, SHORTAGES[shortage])
    found = compute_gradient(session, WINDOW)
    assert found.loss == pytest.approx(wanted.loss, rel=1e-6)
    assert found.norm == pytest.approx(wanted.norm, rel=1e-5)
    torch.testing.assert_close(take_gradient(session), take_gradient(plain), rtol=1e-5, atol=1e-6)
    # Eight rows failed, then four; the rows and their order stay.
    assert passes == [
        list(range(8)), list(range(4)), [0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11], [12],
    ]  # fmt: skip
    assert [each.text for each in listener.incidents] == [
        f"step 1: {shortage}; at most {size} instead of {2 * size} rows a pass from here on, each step over the same"
        " rows as before"
        for size in (4, 2)
    ]
    assert session.progress.smaller_passes == [{"step": 1, "rows_per_pass": size, "why": shortage} for size in (4, 2)]


def test_an_objective_over_pairs_of_rows_says_that_it_is_another_one(open_session: Callable[..., Any]) -> None:
    session, listener = open_session(per_device_train_batch_size=8, dropout=0.0), Listener()
    session.callbacks = (listener,)
    object.__setattr__(session.objective, "is_sum", False)
    limit_rows(session, 4, SHORTAGES["memory ran out"])
    compute_gradient(session, WINDOW)
    (incident,) = listener.incidents
    assert incident.text.endswith("each step over the same rows as before, of which each is compared with fewer others")


def test_memory_that_ends_in_the_middle_of_a_window_leaves_nothing_behind(open_session: Callable[..., Any]) -> None:
    """The first batch is done when the second one fails; its gradient must not count twice."""
    window = [np.arange(4), np.arange(4, 12)]
    plain, session = (open_session(per_device_train_batch_size=8, dropout=0.0) for _ in range(2))
    wanted = compute_gradient(plain, window)
    limit_rows(session, 4, SHORTAGES["memory ran out"])
    assert compute_gradient(session, window).loss == pytest.approx(wanted.loss, rel=1e-6)
    torch.testing.assert_close(take_gradient(session), take_gradient(plain), rtol=1e-5, atol=1e-6)


def test_the_same_step_is_taken_with_the_same_seed(open_session: Callable[..., Any]) -> None:
    """A run that ended up with small passes is one that began with them."""
    settings = {"rows": 20, "epochs": 2, "per_device_train_batch_size": 8, "dropout": 0.2}
    from_start, limited = (open_session(folder=name, **settings) for name in ("from start", "limited"))
    from_start.progress.rows_per_pass = 4
    limit_rows(limited, 4, SHORTAGES["memory ran out"])
    for session in (from_start, limited):
        fit(session)
    for (name, wanted), (_, found) in zip(
        iterate_trainable(from_start.model), iterate_trainable(limited.model), strict=True
    ):
        assert torch.equal(wanted, found), name


def test_a_resumed_run_keeps_the_size(open_session: Callable[..., Any]) -> None:
    settings = {"rows": 16, "epochs": 2, "per_device_train_batch_size": 8, "save_steps": 1}
    whole = open_session(folder="whole", **settings)
    limit_rows(whole, 3, SHORTAGES["memory ran out"])
    fit(whole)
    stopped = open_session(folder="stopped", **settings)
    limit_rows(stopped, 3, SHORTAGES["memory ran out"])
    stopped.epochs = 1
    fit(stopped)
    again = open_session(folder="stopped", **settings)
    checkpoint, _ = again.store.find_newest()
    assert checkpoint is not None
    resume_from(again, checkpoint)
    passes = limit_rows(again, 3, SHORTAGES["memory ran out"])
    again.epochs = 2
    fit(again)
    assert max(map(len, passes)) == 2
    assert len(again.progress.smaller_passes) == 2
    assert [each["step"] for each in whole.progress.smaller_passes] == [1, 1]


def test_a_row_that_does_not_fit_ends_the_run_with_a_checkpoint(open_session: Callable[..., Any]) -> None:
    session = open_session(rows=16, per_device_train_batch_size=4)
    passes = limit_rows(session, 0, SHORTAGES["the GPU is out of memory"])
    with pytest.raises(TrainingError) as caught:
        fit(session)
    assert str(caught.value) == (
        "a single row is too much for the memory at step 1\n"
        "  found: the GPU is out of memory\n"
        "  do: a smaller --max-seq-length, --set training.gradient_checkpointing=true, --technique lora or qlora,"
        " or a smaller model"
    )
    assert [len(rows) for rows in passes] == [4, 2, 1]
    checkpoint, _ = session.store.find_newest()
    assert checkpoint is not None
    assert (checkpoint.state["step"], checkpoint.state["rows_per_pass"]) == (0, 1)


def test_other_errors_are_not_taken_for_it(open_session: Callable[..., Any]) -> None:
    session = open_session()
    limit_rows(session, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        train_step(session, WINDOW)
    assert session.progress == Progress()


def test_memory_is_read_before_every_pass(open_session: Callable[..., Any]) -> None:
    session = open_session(per_device_train_batch_size=4)
    reads = iter([False, False, True, False, False, False, False, False])

    def check() -> None:
        if next(reads):
            raise MemoryNearlyFull

    session.memory.check = check
    train_step(session, [np.arange(4), np.arange(4, 8), np.arange(8, 10)])
    assert session.progress.rows_per_pass == 2
    assert next(reads, None) is None


@pytest.mark.parametrize("is_packed", [False, True])
def test_language_models_take_smaller_passes_too(
    is_packed: bool, tiny_models: Callable[[str], Any], open_session: Callable[..., Any], language_rows: Any
) -> None:
    """The mean is over learned tokens, and a unit is a row or several packed ones."""
    gradients = []
    for most in (10**6, 1):
        session = open_session(per_device_train_batch_size=8)
        objective = language_rows
        if is_packed:
            objective = replace(objective, packs=pack_rows(objective.train.tokens.lengths, 30))
        session.model = load_language_model(tiny_models("llama")).model
        session.optimizer = make_optimizer(session.model, 1e-3, 0.01)
        session.objective = objective
        window = [np.arange(len(objective.lengths))]
        limit_rows(session, most, SHORTAGES["memory ran out"])
        found = compute_gradient(session, window)
        gradients.append((found, take_gradient(session)))
        assert len(cut_passes(session, window)) == (1 if most > 1 else len(objective.lengths))
    (wanted, wanted_gradient), (found, gradient) = gradients
    assert found.loss == pytest.approx(wanted.loss, rel=1e-6)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-5, atol=1e-6)


def test_an_evaluation_is_the_same_in_smaller_passes(
    tiny_models: Callable[[str], Any], open_session: Callable[..., Any], language_rows: Any
) -> None:
    """Training keeps its own size: these are other rows."""
    model = load_language_model(tiny_models("llama")).model
    for session, network in ((open_session(), None), (open_session(), model)):
        if network is not None:
            session.model, session.objective = network, language_rows
        wanted = eval_step(session)
        fail_on_many_rows(session.model.get_input_embeddings(), 1)
        assert eval_step(session) == pytest.approx(wanted, rel=1e-5)
        assert session.progress.rows_per_pass is None


def fail_on_many_rows(layer: torch.nn.Module, most: int) -> None:
    """Let a layer run out of memory where it is given more rows."""

    def refuse(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > most:
            raise SHORTAGES["the GPU is out of memory"]

    layer.register_forward_pre_hook(refuse)
