"""A signal waits for one batch and cuts an evaluation short, checkpoints come with time; none of it moves a weight."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from afina.data.batches import Indices
from afina.errors import Interrupted
from afina.techniques.base import iterate_trainable
from afina.training import session as session_module
from afina.training.events import Callback
from afina.training.loop import fit
from afina.training.session import Session, resume_from

RUN = {"rows": 18, "epochs": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "dropout": 0.2}
STEPS_AN_EPOCH, BATCHES_AN_EPOCH = 3, 9


class Saves(Callback):
    """The steps of the checkpoints."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_checkpoint(self, step: int, folder: str) -> None:
        self.steps.append(step)


def take_weights(session: Session) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in iterate_trainable(session.model)}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def count_batches(session: Session, at: int, number: signal.Signals) -> list[int]:
    """Send a signal while the `at`-th batch is computed; gives a list with an entry for each batch."""
    objective: Any = session.objective
    sum_losses, batches = objective.sum_losses, []

    def sum_counted(model: Any, rows: Indices, accelerator: Any) -> torch.Tensor:
        batches.append(len(rows))
        if len(batches) == at:
            os.kill(os.getpid(), number)
        return sum_losses(model, rows, accelerator)

    object.__setattr__(objective, "sum_losses", sum_counted)
    return batches


def finish(open_session: Callable[..., Any], folder: str) -> Session:
    """The run of a folder, gone on with to its end."""
    again: Session = open_session(folder=folder, **RUN)
    checkpoint, damaged = again.store.find_newest()
    assert checkpoint is not None
    assert damaged == {}
    resume_from(again, checkpoint)
    fit(again)
    return again


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", [1, 2, 4, 5, 7, 9, 12])
def test_a_signal_waits_for_its_batch_and_not_for_the_window(
    at: int, number: signal.Signals, open_session: Callable[..., Any]
) -> None:
    whole = open_session(folder="whole", **RUN)
    fit(whole)
    stopped = open_session(folder="stopped", **RUN)
    batches = count_batches(stopped, at, number)
    with stopped.signals, pytest.raises(Interrupted) as caught:
        fit(stopped)
    assert caught.value.exit_code == 128 + number
    assert len(batches) == at
    # Batches of a window that wasn't finished are done again: windows are of four, four and one.
    epoch, batch = divmod(at, BATCHES_AN_EPOCH)
    checkpoint, _ = stopped.store.find_newest()
    assert checkpoint is not None
    assert checkpoint.state["step"] == epoch * STEPS_AN_EPOCH + batch // 4
    again = finish(open_session, "stopped")
    assert equal(take_weights(again), take_weights(whole))
    assert again.progress == whole.progress


@pytest.mark.parametrize("head_init", ["random", "probe"])
def test_a_signal_cuts_an_evaluation_short(head_init: str, open_session: Callable[..., Any]) -> None:
    """With a solved head the first evaluation comes before any step."""
    settings = RUN | {"head_init": head_init}
    whole = open_session(folder="whole", **settings)
    fit(whole)
    stopped = open_session(folder="stopped", **settings)
    evaluate = stopped.objective.task.score

    def score_slowly(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        return evaluate(*given)

    stopped.objective.task.score = score_slowly
    began = time.monotonic()
    with stopped.signals, pytest.raises(Interrupted) as caught:
        fit(stopped)
    assert time.monotonic() - began < 30
    assert caught.value.exit_code == 143
    checkpoint, _ = stopped.store.find_newest()
    assert checkpoint is not None
    assert checkpoint.state["step"] == (0 if head_init == "probe" else STEPS_AN_EPOCH)
    assert (checkpoint.state["epoch"], checkpoint.state["best_step"]) == (0, None), "the epoch isn't over yet"
    again = open_session(folder="stopped", **settings)
    resume_from(again, checkpoint)
    fit(again)
    assert equal(take_weights(again), take_weights(whole))
    assert again.progress == whole.progress


def test_an_evaluation_does_not_begin_after_a_signal(open_session: Callable[..., Any]) -> None:
    session = open_session(head_init="probe", **RUN)
    session.signals.received = signal.SIGINT
    session.objective.task.score = None  # would fail
    with pytest.raises(Interrupted):
        fit(session)


@pytest.mark.parametrize(("minutes", "expected"), [(0, [3, 6]), (1, [1, 2, 3, 4, 5, 6]), (2.5, [2, 3, 5, 6])])
def test_checkpoints_come_with_time_too(
    minutes: float, expected: list[int], open_session: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes a minute and a half here; the evaluation after each third one saves in any case."""
    plain = open_session(folder="plain", save_every_minutes=0, **RUN)
    fit(plain)
    now = 0.0

    class Clock(Callback):
        def on_step_end(self, step: int, values: dict[str, float]) -> None:
            nonlocal now
            now += 90.0

    monkeypatch.setattr(session_module.time, "monotonic", lambda: now)
    session, saves = open_session(save_every_minutes=minutes, **RUN), Saves()
    session.saved_at = now
    session.callbacks = (Clock(), saves)
    fit(session)
    assert saves.steps == expected
    assert equal(take_weights(session), take_weights(plain))


def test_a_clock_that_jumps_changes_nothing(open_session: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = iter(range(10**9, 0, -(10**6)))
    monkeypatch.setattr(session_module.time, "time", lambda: float(next(jumps)))
    session, saves = open_session(save_every_minutes=1, **RUN), Saves()
    session.callbacks = (saves,)
    fit(session)
    assert saves.steps == [3, 6]
