"""What isn't a number moves nothing: its step is skipped, its rows are named, a resumed run skips the same steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from afina.data.batches import Indices, group_windows, order_training_batches
from afina.errors import Interrupted, TrainingError
from afina.techniques.base import iterate_trainable
from afina.training import not_finite
from afina.training.callbacks.history import HistoryWriter, read_history
from afina.training.events import Callback, Incident
from afina.training.loop import fit, train_step
from afina.training.session import Session, resume_from

RUN = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "dropout": 0.2, "rows": 20, "epochs": 2}
BAD = 7
"""The row that gives no number."""


class Listener(Callback):
    """Keeps the incidents and the numbers of the steps that were taken."""

    def __init__(self) -> None:
        self.incidents: list[Incident] = []
        self.steps: list[int] = []

    def on_incident(self, step: int, incident: Incident) -> None:
        self.incidents.append(incident)

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        self.steps.append(step)


def spoil(session: Session, kind: str, bad: tuple[int, ...] = (BAD,), times: int = 10**6) -> None:
    """Let the loss or the gradient of some rows be no number, in the first so many passes that hold one of them."""
    objective: Any = session.objective
    sum_losses, left = objective.sum_losses, times

    def sum_spoilt(model: Any, rows: Indices, accelerator: Any) -> torch.Tensor:
        nonlocal left
        loss: torch.Tensor = sum_losses(model, rows, accelerator)
        if left and set(bad) & set(rows.tolist()):
            left -= 1
            # Either no number at all, or 0 with an infinite gradient.
            loss = loss * float("nan") if kind == "loss" else loss + torch.sqrt(loss - loss.detach())
        return loss

    object.__setattr__(objective, "sum_losses", sum_spoilt)


def take_state(session: Session) -> dict[str, torch.Tensor]:
    """Weights and moments."""
    state = {name: parameter.detach().clone() for name, parameter in iterate_trainable(session.model)}
    for name, parameter in iterate_trainable(session.model):
        state |= {f"{name}.{key}": value.clone() for key, value in session.optimizer.state.get(parameter, {}).items()}
    return state


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_skipped_step_moves_neither_weights_nor_moments(kind: str, open_session: Callable[..., Any]) -> None:
    session = open_session(dropout=0.0)
    listener = Listener()
    session.callbacks = (listener,)
    assert train_step(session, [np.arange(8, 12)]) is not None  # now there are moments
    before = take_state(session)
    assert any(name.endswith("exp_avg") for name in before)
    spoil(session, kind)
    assert train_step(session, [np.arange(4), np.arange(4, 8)]) is None
    assert equal(take_state(session), before)
    assert all(parameter.grad is None for parameter in session.model.parameters())
    values = {"step": 1, "what": kind, "rows": [BAD + 1]}
    text = f"step 1 is skipped: its {kind} is not a finite number; training row {BAD + 1}"
    assert listener.incidents == [Incident("skipped_step", text, values)]
    assert session.progress.skipped_steps == [values]
    assert train_step(session, [np.arange(4)]) is not None
    assert not equal(take_state(session), before)


def test_infinity_is_no_number_either(open_session: Callable[..., Any]) -> None:
    session = open_session()
    objective: Any = session.objective
    plain = objective.sum_losses
    object.__setattr__(objective, "sum_losses", lambda *given: plain(*given) * float("inf"))
    assert train_step(session, [np.arange(4)]) is None


def test_each_guilty_row_is_named(open_session: Callable[..., Any]) -> None:
    session = open_session()
    spoil(session, "loss", (3, 9, 15))
    train_step(session, [np.arange(16)])
    assert session.progress.skipped_steps[0]["rows"] == [4, 10, 16]


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_row_is_not_blamed_for_the_step_it_is_in(kind: str, open_session: Callable[..., Any]) -> None:
    """Each of them is a batch, and what they are told by must not hold the gradient of the step."""
    session = open_session()
    spoil(session, kind)
    train_step(session, [np.array([3]), np.array([BAD]), np.array([4])])
    assert session.progress.skipped_steps[0]["rows"] == [BAD + 1]


def test_the_whole_step_is_named_where_no_row_is_guilty_alone(open_session: Callable[..., Any]) -> None:
    session = open_session()
    spoil(session, "loss", times=1)
    train_step(session, [np.arange(4, 8)])
    assert session.progress.skipped_steps[0]["rows"] == [5, 6, 7, 8]


def test_naming_rows_takes_so_many_passes_at_most(
    open_session: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(not_finite, "MOST_PASSES", 6)
    session = open_session()
    spoil(session, "loss", tuple(range(16)))
    passes = []
    measure = not_finite.measure_rows
    monkeypatch.setattr(not_finite, "measure_rows", lambda *given: (passes.append(given[1]), measure(*given))[1])
    train_step(session, [np.arange(4)])
    assert len(passes) == 6
    assert session.progress.skipped_steps[0]["rows"] == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_run_that_is_killed_around_a_skipped_step_ends_as_one_that_is_not(
    kind: str, open_session: Callable[..., Any]
) -> None:
    whole = open_session(folder="whole", save_steps=1, **RUN)
    spoil(whole, kind)
    listener = Listener()
    whole.callbacks = (listener,)
    fit(whole)
    skipped = [each["step"] for each in whole.progress.skipped_steps]
    assert len(skipped) == 2  # once an epoch
    assert sorted(listener.steps + skipped) == list(range(1, 7))
    for at in range(1, 6):
        stopped = open_session(folder=f"stopped {at}", save_steps=1, **RUN)
        spoil(stopped, kind)
        stopped.callbacks = (Kill(at),)
        with pytest.raises(KeyboardInterrupt):
            fit(stopped)
        again = open_session(folder=f"stopped {at}", save_steps=1, **RUN)
        spoil(again, kind)
        checkpoint, _ = again.store.find_newest()
        assert checkpoint is not None
        assert checkpoint.state["step"] == at
        resume_from(again, checkpoint)
        fit(again)
        assert equal(take_state(again), take_state(whole))
        assert again.progress == whole.progress


class Kill(Callback):
    """Ends everything once the checkpoint of a step is there."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_checkpoint(self, step: int, folder: str) -> None:
        if step == self.step:
            raise KeyboardInterrupt


def test_too_many_stop_the_run_at_its_last_good_checkpoint(open_session: Callable[..., Any], tmp_path: Any) -> None:
    session = open_session(max_skipped_steps=1, save_steps=1, **RUN)
    windows = group_windows(order_training_batches(session.objective.lengths, 4, session.seed, 0), 2)
    spoil(session, "loss", (int(windows[1][0][0]), int(windows[2][0][0])))
    with pytest.raises(TrainingError) as caught:
        fit(session)
    rows = sorted([int(windows[1][0][0]) + 1, int(windows[2][0][0]) + 1])
    assert str(caught.value) == (
        "the loss is not a finite number at step 3, and too many steps were skipped\n"
        f"  found: 2 of them, by training rows {rows[0]}, {rows[1]}; the last good checkpoint is step-00000002\n"
        "  expected: at most 1 (training.max_skipped_steps)\n"
        f"  do: look at these rows; then afina train --config {tmp_path}/run/config.yaml --output NEW with a smaller"
        " --learning-rate than 0.01 or --set training.precision=fp32"
    )
    checkpoint, damaged = session.store.find_newest()
    assert checkpoint is not None
    assert (checkpoint.state["step"], damaged) == (2, {})


def test_no_step_may_be_skipped_where_the_settings_say_so(open_session: Callable[..., Any]) -> None:
    session = open_session(max_skipped_steps=0, **RUN)
    spoil(session, "gradient")
    with pytest.raises(TrainingError, match="the gradient is not a finite number at step 1"):
        train_step(session, [np.arange(8)])


def test_the_history_holds_it(open_session: Callable[..., Any], tmp_path: Any) -> None:
    session = open_session(**RUN)
    history = HistoryWriter(tmp_path / "metrics.jsonl", 1)
    session.callbacks = (history,)
    spoil(session, "loss")
    fit(session)
    lines = [line for line in read_history(history.path) if "incident" in line]
    assert lines == [{"incident": "skipped_step", **each} for each in session.progress.skipped_steps]
    assert all(np.isfinite(line["loss"]) for line in read_history(history.path) if "loss" in line)


def test_validation_rows_without_a_number_stop_the_run(open_session: Callable[..., Any]) -> None:
    """An average over the others would hide them."""
    session = open_session(**RUN)
    with torch.no_grad():
        next(p for name, p in session.model.named_parameters() if "word_embeddings" in name)[:] = float("nan")
    with pytest.raises(TrainingError) as caught:
        session.objective.evaluate(session.model, session.accelerator)
    assert str(caught.value).startswith(
        "the model gives no finite number for some of the validation rows\n"
        "  found: validation rows 1, 2, 3, 4, 5, 6, 7, 8\n"
    )


def test_a_signal_while_a_step_is_skipped_is_minded_after_it(open_session: Callable[..., Any]) -> None:
    session = open_session(**RUN)
    spoil(session, "loss", tuple(range(20)))

    class Signal(Listener):
        def on_incident(self, step: int, incident: Incident) -> None:
            session.signals.received = 15

    session.callbacks = (Signal(),)
    with pytest.raises(Interrupted):
        fit(session)
    checkpoint, _ = session.store.find_newest()
    assert checkpoint is not None
    assert checkpoint.state["step"] == len(checkpoint.state["skipped_steps"]) == 1
