"""Accumulated equals whole, resumed equals uninterrupted, and the best weights come back."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from afina.data.batches import collate_rows, group_windows, order_training_batches
from afina.errors import Interrupted, RunFolderError, TrainingError
from afina.tasks.base import TaskState
from afina.techniques.base import iterate_trainable
from afina.training import loop
from afina.training.events import Callback, StopTraining, TrainingPlan
from afina.training.loop import eval_step, fit, run_epoch, train_step
from afina.training.precision import precision_of
from afina.training.session import Progress, Session, find_wrong_progress, resume_from, start_accelerator

FITS = {
    "multiclass": TaskState(class_weights=(0.3, 1.0, 4.0)),
    "multilabel": TaskState(class_weights=(0.5, 2.0, 3.0)),
    "regression": TaskState(target_mean=0.1, target_scale=0.5),
}


class Recorder(Callback):
    """Writes down all that is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def on_train_begin(self, plan: TrainingPlan) -> None:
        self.told.append(("begin", plan))

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        self.told.append(("step", step, values))

    def on_evaluate_end(self, step: int, values: dict[str, float]) -> None:
        self.told.append(("evaluate", step, values))

    def on_checkpoint(self, step: int, folder: str) -> None:
        self.told.append(("checkpoint", step))

    def on_train_end(self, step: int, values: dict[str, Any]) -> None:
        self.told.append(("end", step, values))

    def named(self, event: str) -> list[tuple[Any, ...]]:
        return [told for told in self.told if told[0] == event]


class Stopper(Callback):
    """Ends the training at an event of one step."""

    def __init__(self, event: str, step: int) -> None:
        self.event, self.step = event, step

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        if (self.event, self.step) == ("step", step):
            raise StopTraining

    def on_evaluate_end(self, step: int, values: dict[str, float]) -> None:
        if (self.event, self.step) == ("evaluate", step):
            raise StopTraining


def keep_gradients(session: Session) -> list[dict[str, torch.Tensor]]:
    """A list that gets the gradients of each step; the weights stay where they are."""
    kept: list[dict[str, torch.Tensor]] = []

    def step() -> None:
        kept.append({name: p.grad.clone() for name, p in iterate_trainable(session.model) if p.grad is not None})

    session.optimizer.step = step  # type: ignore[method-assign, assignment]
    return kept


def take_weights(session: Session) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in iterate_trainable(session.model)}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", FITS)
def test_four_small_batches_are_one_large(kind: str, weighted: bool, open_session: Callable[..., Any]) -> None:
    settings = FITS[kind] if weighted or kind == "regression" else TaskState()
    session = open_session(kind=kind, state=settings, max_grad_norm=0.0)
    rows = np.random.default_rng(0).permutation(20)[:15]
    small = [rows[:4], rows[4:5], rows[5:11], rows[11:]]
    assert len({int(session.objective.train.tokens.lengths[part].max()) for part in small}) > 2
    gradients = keep_gradients(session)
    told = [train_step(session, window) for window in ([rows], small, [rows[:4]])]
    assert gradients[0].keys() == dict(iterate_trainable(session.model)).keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients[0].values())
    assert largest > 1e-3
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-6 * max(1.0, largest), msg=name)
    assert not equal(gradients[2], gradients[0])
    for name in ("loss", "grad_norm", "rows", "learning_rate"):
        assert told[1][name] == pytest.approx(told[0][name], rel=1e-5)


@pytest.mark.parametrize("kind", FITS)
def test_each_window_is_torchs_mean_over_its_rows(kind: str, open_session: Callable[..., Any]) -> None:
    settings = FITS[kind]
    session = open_session(
        kind=kind, state=settings, max_grad_norm=0.0, per_device_train_batch_size=3, gradient_accumulation_steps=2
    )
    gradients = keep_gradients(session)
    run_epoch(session)
    windows = group_windows(order_training_batches(session.objective.train.tokens.lengths, 3, session.seed, 0), 2)
    sizes = [sum(map(len, window)) for window in windows]
    assert len(gradients) == len(windows) == session.steps_per_epoch == 4
    assert len(windows[-1]) == 1  # 20 rows are 7 batches, and 7 batches are 3 windows and a half
    assert len(set(sizes)) > 1
    for window, found in zip(windows, gradients, strict=True):
        rows = np.concatenate(window)
        session.model.train()
        logits = session.model(**collate_rows(session.objective.train.tokens, rows, session.objective.pad_id)).logits
        labels = torch.from_numpy(session.objective.train.labels[rows])
        if kind == "multiclass":
            loss = functional.cross_entropy(logits, labels, weight=torch.tensor(settings.class_weights))
        elif kind == "multilabel":
            weights = torch.tensor(settings.class_weights)
            loss = functional.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=weights)
        else:
            loss = functional.mse_loss(logits[:, 0], (labels - settings.target_mean) / settings.target_scale)
        session.model.zero_grad()
        loss.backward()
        for name, parameter in iterate_trainable(session.model):
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=2e-6, msg=name)
        session.model.zero_grad()


def test_gradients_are_clipped_to_the_norm(open_session: Callable[..., Any]) -> None:
    session = open_session(max_grad_norm=0.05)
    gradients = keep_gradients(session)
    values = train_step(session, [np.arange(8)])
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients[0].values()))
    assert values["grad_norm"] > 0.1
    assert norm == pytest.approx(0.05, rel=1e-3)


def test_the_loop_tells_what_it_does(open_session: Callable[..., Any]) -> None:
    session = open_session(epochs=2, per_device_train_batch_size=6, save_steps=3, early_stopping_patience=0)
    recorder = Recorder()
    session.callbacks = (recorder,)
    fit(session)
    assert [(told[0], told[1]) for told in recorder.told] == [
        ("begin", TrainingPlan(8, 2, 0)), ("step", 1), ("step", 2), ("step", 3), ("checkpoint", 3), ("step", 4),
        ("evaluate", 4), ("checkpoint", 4), ("step", 5), ("step", 6), ("checkpoint", 6), ("step", 7), ("step", 8),
        ("evaluate", 8), ("checkpoint", 8), ("end", 8),
    ]  # fmt: skip
    assert [told[2]["epoch"] for told in recorder.named("step")] == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert sum(told[2]["rows"] for told in recorder.named("step")) == 2 * 20
    assert [told[2]["epoch"] for told in recorder.named("evaluate")] == [1.0, 2.0]
    # 8 steps, of which the first is warm-up.
    rates = [told[2]["learning_rate"] for told in recorder.named("step")]
    assert rates == pytest.approx([1e-2 * r for r in [1 / 2, 1, 6 / 7, 5 / 7, 4 / 7, 3 / 7, 2 / 7, 1 / 7]])


def test_steps_end_the_training_and_part_its_evaluations(open_session: Callable[..., Any]) -> None:
    session = open_session(epochs=9, per_device_train_batch_size=6, max_steps=6, eval_steps=2, save_steps=0)
    recorder = Recorder()
    session.callbacks = (recorder,)
    fit(session)
    assert recorder.named("begin")[0][1] == TrainingPlan(6, 2, 0)
    assert [(told[1], told[2]["epoch"]) for told in recorder.named("evaluate")] == [(2, 0.5), (4, 1.0), (6, 1.5)]
    assert (session.progress.step, recorder.named("step")[-1][1]) == (6, 6)
    # The schedule ends where the training does.
    rates = [told[2]["learning_rate"] for told in recorder.named("step")]
    assert rates == pytest.approx([1e-2 * r for r in [1 / 2, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5]])


def test_patience_runs_out_within_an_epoch(open_session: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session(rows=18, epochs=2, per_device_train_batch_size=3, eval_steps=1, early_stopping_patience=2)
    measure_badly([1.0, 2.0, 3.0], session, monkeypatch)
    fit(session)
    assert (session.progress.step, session.progress.best_step) == (3, 1)


@pytest.mark.parametrize("technique", ["full", "lora"])
def test_training_learns(technique: str, open_session: Callable[..., Any]) -> None:
    session = open_session(technique, epochs=8, rows=48, learning_rate=5e-3, per_device_train_batch_size=8)
    before = eval_step(session)["loss"]
    fit(session)
    after = eval_step(session)
    assert after["loss"] < 0.7 * before
    assert session.progress.best_loss == pytest.approx(after["loss"])


@pytest.mark.parametrize("kind", FITS)
def test_the_validation_loss_is_the_mean_of_the_rows(kind: str, open_session: Callable[..., Any]) -> None:
    session = open_session(kind=kind, state=FITS[kind])
    values = eval_step(session)
    objective = session.objective
    part, batch = objective.validation, collate_rows(objective.validation.tokens, np.arange(8), objective.pad_id)
    with torch.no_grad():
        logits = session.model(**batch).logits
    # In training classes have weights; here they have none, as in the report.
    losses = objective.task.losses(logits, torch.from_numpy(part.labels), TaskState())
    if kind == "regression":
        losses = objective.task.losses(logits, torch.from_numpy(part.labels), objective.state)
    assert values["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert objective.task.primary_metric in values
    if kind == "regression":  # scores are in the units of the data
        misses = logits[:, 0].numpy() * 0.5 + 0.1 - part.labels
        assert values["rmse"] == pytest.approx(float(np.sqrt((misses**2).mean())), rel=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_same_weights_have_the_same_scores(dropout: float, open_session: Callable[..., Any]) -> None:
    """Whatever was computed before, and in which mode the model was left."""
    session = open_session(dropout=dropout)
    first = eval_step(session)
    train_step(session, [np.arange(4)])
    moved = eval_step(session)
    assert moved != first
    session.model.train()
    torch.manual_seed(99)
    session.objective.sum_losses(session.model, np.arange(8), session.accelerator)
    assert eval_step(session) == moved


class Crash(Exception):
    """What a callback raises in place of a kill."""


class CrashAfter(Callback):
    """Raises after the `number`-th checkpoint."""

    def __init__(self, number: int) -> None:
        self.left = number

    def on_checkpoint(self, step: int, folder: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash


RUN = {
    "rows": 18, "epochs": 3, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "save_steps": 2,
    "dropout": 0.2, "save_total_limit": 1,
}  # fmt: skip


@pytest.mark.parametrize("more", [{}, {"max_steps": 7, "eval_steps": 2}], ids=["epochs", "steps"])
@pytest.mark.parametrize("technique", ["full", "lora"])
def test_a_resumed_run_is_the_uninterrupted_one(
    technique: str, more: dict[str, int], open_session: Callable[..., Any]
) -> None:
    run = RUN | more
    whole = open_session(technique, folder="whole", **run)
    recorder = Recorder()
    whole.callbacks = (recorder,)
    fit(whole)
    checkpoints = len(recorder.named("checkpoint"))
    assert checkpoints == (7 if more else 6)
    for number in {*random.Random(technique).sample(range(1, checkpoints), 2), checkpoints}:
        stopped = open_session(technique, folder=f"stopped {number}", **run)
        stopped.callbacks = (CrashAfter(number),)
        with pytest.raises(Crash):
            fit(stopped)
        again = open_session(technique, folder=f"stopped {number}", **run)
        checkpoint, damaged = again.store.find_newest()
        assert checkpoint is not None
        assert damaged == {}
        assert not equal(take_weights(again), take_weights(stopped))
        resume_from(again, checkpoint)
        assert equal(take_weights(again), take_weights(stopped))
        assert again.progress == stopped.progress
        told = Recorder()
        again.callbacks = (told,)
        fit(again)
        assert equal(take_weights(again), take_weights(whole))
        assert again.progress == whole.progress
        assert told.named("begin")[0][1].first_step == checkpoint.state["step"]
        # Step by step the same loss, not only the same end.
        assert told.named("step") == recorder.named("step")[checkpoint.state["step"] :]
        evaluated = checkpoint.state["evaluated_step"] or 0
        assert told.named("evaluate") == [each for each in recorder.named("evaluate") if each[1] > evaluated]


@pytest.mark.parametrize("every", [0, 2])
@pytest.mark.parametrize("at", [2, 3])  # in the middle of an epoch, and at its last step, before the evaluation
def test_a_signal_stops_after_its_step_and_the_run_goes_on_as_if_nothing_had_been(
    at: int, every: int, open_session: Callable[..., Any]
) -> None:
    run = RUN | {"eval_steps": every}
    whole = open_session(folder="whole", **run)
    evaluated = Recorder()
    whole.callbacks = (evaluated,)
    fit(whole)

    class Signal(Callback):
        def on_step_end(self, step: int, values: dict[str, float]) -> None:
            if step == at:
                stopped.signals.received = 15

    stopped = open_session(folder="stopped", **run)
    recorder = Recorder()
    stopped.callbacks = (Signal(), recorder)
    with pytest.raises(Interrupted) as caught:
        fit(stopped)
    assert caught.value.exit_code == 143
    assert caught.value.run == stopped.store.folder.parent
    assert recorder.named("step")[-1][1] == recorder.named("checkpoint")[-1][1] == at
    again = open_session(folder="stopped", **run)
    checkpoint, _ = again.store.find_newest()
    assert checkpoint is not None
    resume_from(again, checkpoint)
    again.callbacks = (recorder,)
    fit(again)
    assert recorder.named("evaluate") == evaluated.named("evaluate")
    assert equal(take_weights(again), take_weights(whole))


def measure_badly(losses: list[float], session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The evaluations give these losses, and always the same score."""
    values = iter(losses)
    monkeypatch.setattr(loop, "eval_step", lambda session: {"loss": next(values), "accuracy": 0.5})


@pytest.mark.parametrize(
    ("losses", "patience", "evaluations", "best"),
    [
        ([5, 4, 3, 2, 1, 0.5], 2, 6, 6),
        ([5, 4, 4.5, 4.6, 1, 1], 2, 4, 2),
        ([5, 6, 4, 6, 6, 1], 2, 5, 3),
        ([5, 5, 5, 5, 5, 5], 3, 4, 1),
        ([5, 6, 7, 8, 9, 10], 0, 6, 1),
        ([5, 6, 7, 8, 9, 4], 5, 6, 6),
    ],
)
def test_training_stops_when_patience_ends_and_the_best_weights_come_back(
    losses: list[float],
    patience: int,
    evaluations: int,
    best: int,
    open_session: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = open_session(
        rows=6, epochs=6, per_device_train_batch_size=3, early_stopping_patience=patience, save_total_limit=1
    )
    measure_badly(losses, session, monkeypatch)
    seen: dict[int, dict[str, torch.Tensor]] = {}

    class Watch(Callback):
        def on_evaluate_end(self, step: int, values: dict[str, float]) -> None:
            seen[int(values["epoch"])] = take_weights(session)

    session.callbacks = (Watch(),)
    fit(session)
    assert list(seen) == list(range(1, evaluations + 1))
    assert session.progress.best_step == 2 * best
    assert session.progress.best_loss == losses[best - 1]
    assert equal(take_weights(session), seen[best])
    assert sum(equal(take_weights(session), weights) for weights in seen.values()) == 1


@pytest.mark.parametrize(
    ("epochs", "eval_steps", "evaluations", "patience"), [(2, 0, 2, 3), (10, 0, 10, 5), (5, 1, 10, 5), (3, 2, 3, 3)]
)
def test_patience_lasts_for_half_of_the_evaluations(
    epochs: int, eval_steps: int, evaluations: int, patience: int, open_session: Callable[..., Any]
) -> None:
    session = open_session(rows=6, epochs=epochs, per_device_train_batch_size=3, eval_steps=eval_steps)
    assert session.count_evaluations() == evaluations
    session.progress.worse_evaluations = patience - 1
    assert not session.is_out_of_patience
    session.progress.worse_evaluations = patience
    assert session.is_out_of_patience


def test_the_score_chooses_before_the_loss_does() -> None:
    progress = Progress(step=1)
    loop.remember_best(progress, 0.7, 0.5)
    progress.step = 2
    loop.remember_best(progress, 0.8, 0.9)
    assert (progress.best_step, progress.best_loss, progress.worse_evaluations) == (2, 0.9, 0)
    progress.step = 3
    loop.remember_best(progress, 0.7, 0.1)
    assert (progress.best_step, progress.worse_evaluations) == (2, 1)


def test_patience_counts_from_what_training_has_reached_and_not_from_the_start() -> None:
    """A solved head is spoilt by the first steps, and what gets better from there is worth waiting for."""
    progress, worse = Progress(step=0), []
    for step, rank in enumerate([0.9, 0.2, 0.3, 0.5, 0.4, 0.5, 0.95, 0.1]):
        progress.step = step
        loop.remember_best(progress, rank, 1.0)
        worse.append(progress.worse_evaluations)
    assert worse == [0, 0, 0, 0, 1, 2, 0, 1]
    assert (progress.best_step, progress.best_rank) == (6, 0.95)


def test_where_the_score_chooses_nothing_the_newest_counts() -> None:
    progress = Progress(step=1)
    loop.remember_best(progress, 0.8, 0.5, is_chosen=False)
    progress.step = 2
    loop.remember_best(progress, 0.7, 0.9, is_chosen=False)
    assert (progress.best_step, progress.best_loss, progress.worse_evaluations) == (2, 0.9, 0)


def test_a_solved_head_is_kept_when_training_makes_it_worse(
    open_session: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(rows=6, epochs=2, per_device_train_batch_size=3, head_init="probe")
    untouched = take_weights(session)
    measure_badly([1, 2, 3], session, monkeypatch)
    fit(session)
    assert session.progress.best_step == 0
    assert session.progress.step == 4
    assert equal(take_weights(session), untouched)


def test_the_session_says_whether_the_start_may_be_the_result(
    open_session: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(rows=6, epochs=2, per_device_train_batch_size=3, head_init="random")
    session.evaluates_start = True  # as for a language model, which has no new head
    measure_badly([1, 2, 3], session, monkeypatch)
    fit(session)
    assert session.progress.best_step == 0


def test_a_run_that_was_out_of_patience_takes_no_more_steps_when_resumed(
    open_session: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"rows": 6, "epochs": 6, "per_device_train_batch_size": 3, "early_stopping_patience": 1}
    session = open_session(**settings)
    measure_badly([1, 2], session, monkeypatch)
    fit(session)
    again = open_session(**settings)
    checkpoint, _ = again.store.find_newest()
    assert checkpoint is not None
    resume_from(again, checkpoint)
    recorder = Recorder()
    again.callbacks = (recorder,)
    fit(again)
    assert recorder.named("step") == []
    assert equal(take_weights(again), take_weights(session))


@pytest.mark.parametrize(("epoch", "window", "step"), [(1, 0, 1), (0, 2, 9), (3, 0, 6), (0, 5, 2)])
def test_a_place_that_the_training_never_comes_by_is_refused(
    epoch: int, window: int, step: int, open_session: Callable[..., Any]
) -> None:
    session = open_session(rows=20)  # two steps an epoch, two epochs
    progress = Progress(step=step, epoch=epoch, window=window)
    folder = session.store.save(session.model, session.optimizer, asdict(progress))
    checkpoint, _ = session.store.find_newest()
    with pytest.raises(RunFolderError) as caught:
        resume_from(session, checkpoint)
    assert str(caught.value) == (
        f"the checkpoint {folder} is of another training\n"
        f"  found: step {step} after {epoch} epochs and {window} steps\n"
        f"  expected: 2 steps an epoch, 4 in all\n"
        f"  do: remove {folder}; the run then goes on from an older one, or begins again"
    )
    assert session.progress == Progress()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, ""),
        ({"recent": {"loss": [1.5, float("inf")]}, "spikes": [{"step": 2, "what": "loss"}], "rows_per_pass": 4}, ""),
        ({"later": 1}, "an unknown later"),
        ({"step": -1}, "an odd step (Input should be greater than or equal to 0)"),
        ({"step": True}, "an odd step (Input should be a valid integer)"),
        ({"epoch": "1"}, "an odd epoch (Input should be a valid integer)"),
        ({"rows_per_pass": 0}, "an odd rows_per_pass (Input should be greater than or equal to 1)"),
        ({"recent": {"loss": ["a"]}}, "an odd recent.loss.0 (Input should be a valid number)"),
        ({"skipped_steps": [{"what": "loss"}]}, "an incident without its step"),
        ({"spikes": [{"step": 1}]}, "a spike of nothing"),
        ({"skipped_steps": [{"step": 1, "rows": ["4"]}]}, "a skipped step without its rows"),
    ],
)
def test_a_state_that_no_run_has_written_is_found(change: dict[str, Any], found: str) -> None:
    assert find_wrong_progress(asdict(Progress()) | change) == found


def test_a_state_without_a_key_is_found() -> None:
    state = asdict(Progress())
    del state["epoch"], state["best_loss"]
    assert find_wrong_progress(state) == "no best_loss, epoch"


def test_steps_are_counted_as_they_are_taken(open_session: Callable[..., Any]) -> None:
    session = open_session(rows=20, epochs=3, per_device_train_batch_size=3, gradient_accumulation_steps=4)
    assert (session.steps_per_epoch, session.total_steps) == (2, 6)
    fit(session)
    assert session.progress.step == 6
    assert session.progress == Progress(**session.progress.__dict__)


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("afina.training.session.Accelerator.num_processes", 2)
    with pytest.raises(TrainingError) as caught:
        start_accelerator("cpu", "fp32")
    assert str(caught.value) == "afina trains in one process\n  found: 2 processes"


def test_the_number_format_reaches_the_accelerator() -> None:
    for precision in ("bf16", "fp32"):  # one after the other in one process
        accelerator = start_accelerator("cpu", precision)
        assert precision_of(accelerator) == precision
        assert accelerator.device.type == "cpu"


@pytest.mark.parametrize(("event", "step", "best_step"), [("step", 7, 5), ("evaluate", 5, 5), ("step", 2, None)])
def test_a_listener_ends_the_training(
    event: str, step: int, best_step: int | None, open_session: Callable[..., Any]
) -> None:
    """Five steps an epoch: the weights are those of the best evaluation, or the present ones where there was none."""
    settings = {"rows": 20, "epochs": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-3}
    session, twin = (open_session(folder=name, **settings) for name in ("stopped", "twin"))
    recorder = Recorder()
    session.callbacks = (recorder, Stopper(event, step))
    fit(session)
    assert session.progress.step == step
    assert session.progress.best_step == best_step
    assert [told[1] for told in recorder.named("end")] == [step]
    twin.callbacks = (Stopper("step", best_step or step),)
    fit(twin)
    assert equal(take_weights(session), take_weights(twin))
