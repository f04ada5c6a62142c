"""The history survives a kill, and progress is said in lines or in a bar."""

from __future__ import annotations

import io
import json
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from afina.training.callbacks import progress
from afina.training.callbacks.history import HistoryWriter, read_history
from afina.training.callbacks.progress import ProgressBar, ProgressLines
from afina.training.events import Callback, Incident, TrainingPlan, notify

PLAN = TrainingPlan(total_steps=10, epochs=2, first_step=0)
VALUES = {"loss": 1.5, "learning_rate": 0.1, "grad_norm": 2.0, "epoch": 0.5, "rows": 16.0}


def test_every_callback_is_told_in_order() -> None:
    told: list[tuple[str, int]] = []

    class Named(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_checkpoint(self, step: int, folder: str) -> None:
            told.append((self.name, step))

    notify([Named("a"), Callback(), Named("b")], "on_checkpoint", 7, "folder")
    assert told == [("a", 7), ("b", 7)]


def test_every_callback_can_be_closed() -> None:
    closed: list[str] = []

    class Open(Callback):
        def close(self) -> None:
            closed.append("closed")

    notify([Callback(), Open()], "close")
    assert closed == ["closed"]


def test_lines_hold_the_mean_of_the_steps_since_the_last(tmp_path: Path) -> None:
    history = HistoryWriter(tmp_path / "metrics.jsonl", every_steps=2)
    history.on_train_begin(PLAN)
    for step, loss in enumerate([1.0, 2.0, 3.0, 5.0, 9.0], 1):
        history.on_step_end(step, VALUES | {"loss": loss, "epoch": step / 4})
    history.on_evaluate_end(5, {"validation/loss": 0.25, "epoch": 1.0})
    assert read_history(history.path) == [
        {"step": 2, "epoch": 0.5, "loss": 1.5, "learning_rate": 0.1},
        {"step": 4, "epoch": 1.0, "loss": 4.0, "learning_rate": 0.1},
        {"step": 5, "validation/loss": 0.25, "epoch": 1.0},
    ]


def test_a_resumed_run_drops_what_it_will_do_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": step, "loss": 1.0} for step in (10, 20, 30)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 40, "lo')
    assert read_history(path) == lines
    history = HistoryWriter(path, 10)
    history.on_train_begin(TrainingPlan(100, 1, 20))
    history.append({"step": 21})
    assert read_history(path) == [*lines[:2], {"step": 21}]
    assert read_history(tmp_path / "none") == []


def test_an_evaluation_that_is_made_again_stands_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for _ in range(3):  # stopped before the evaluation, then twice killed between its line and the checkpoint
        history = HistoryWriter(path, 1)
        history.on_train_begin(TrainingPlan(20, 2, 10))
        history.on_incident(10, Incident("spike", "it rose", {"loss": 2.0}))
        history.on_evaluate_end(10, {"validation/loss": 0.5, "epoch": 1.0})
    lines = read_history(path)
    assert [line for line in lines if "validation/loss" in line] == [{"step": 10, "validation/loss": 0.5, "epoch": 1.0}]
    assert sum("incident" in line for line in lines) == 3, "nothing else of the step is dropped"


def take_steps(path: Path, first: int, last: int) -> list[dict[str, Any]]:
    """The lines after a run that goes on after step `first` and is killed after step `last`."""
    history = HistoryWriter(path, every_steps=4)
    history.on_train_begin(TrainingPlan(20, 1, first))
    for step in range(first + 1, last + 1):
        history.on_step_end(step, VALUES | {"loss": step / 7})
    if last == 20:
        history.on_train_end(20, {})
    return read_history(path)


def test_means_of_a_resumed_run_are_those_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = take_steps(tmp_path / "whole.jsonl", 0, 20)
    assert len(whole) == 5
    path = tmp_path / "metrics.jsonl"
    for first, last in ((0, 7), (6, 9), (3, 18)):  # checkpoints between two lines, and before the last line
        take_steps(path, first, last)
    assert take_steps(path, 17, 20) == whole
    assert sorted(each.name for each in tmp_path.iterdir()) == ["metrics.jsonl", "whole.jsonl"]


def test_a_full_disk_costs_no_line(tmp_path: Path) -> None:
    history = HistoryWriter(tmp_path / "metrics.jsonl", every_steps=1)
    history.on_train_begin(PLAN)
    history.on_step_end(1, VALUES)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (history.path.stat().st_size + 10, before[1]))
    try:
        history.on_step_end(2, VALUES)
        history.on_evaluate_end(2, {"validation/loss": 0.5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [line["step"] for line in read_history(history.path)] == [1]
    history.on_step_end(3, VALUES)
    assert [line["step"] for line in read_history(history.path)] == [1, 2, 2, 3]


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200, force_terminal=False)


def read(console: Console) -> str:
    file: Any = console.file
    return str(file.getvalue())


def test_a_line_every_few_seconds(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    lines = ProgressLines(console)
    lines.on_train_begin(TrainingPlan(10, 2, 2))
    for step in range(3, 8):
        now += 4.0
        lines.on_step_end(step, VALUES)
    lines.on_evaluate_end(5, {"validation/loss": 0.5, "validation/accuracy": 0.75, "validation/other": 1, "epoch": 1})
    assert read(console).splitlines() == [
        "step 5/10  loss 1.5000  about 20 s left",
        "epoch 1, step 5: validation loss 0.5000  accuracy 0.7500",
    ]


def test_a_bar_shows_the_loss_and_goes_away(console: Console) -> None:
    bar = ProgressBar(console)
    bar.close()
    bar.on_train_begin(PLAN)
    bar.on_step_end(1, VALUES)
    assert bar.bar is not None
    assert bar.bar.tasks[0].fields["loss"] == "1.5000"
    assert bar.bar.tasks[0].completed == 1
    bar.on_evaluate_end(1, {"validation/rmse": 0.5, "epoch": 1.0})
    bar.on_train_end(1, {})
    assert bar.bar is None
    assert "epoch 1, step 1: validation rmse 0.5000" in read(console)


def learn(history: HistoryWriter, steps: Iterable[int], skipped: int = 0) -> None:
    for step in steps:
        if step == skipped:
            history.on_incident(step, Incident("skipped_step", "", {}))
        else:
            history.on_step_end(step, VALUES | {"loss": 1.0})


@pytest.mark.parametrize("damage", ["both files", "lines", "steps", "end"])
def test_a_history_that_lacks_steps_is_told(damage: str, tmp_path: Path) -> None:
    said: list[str] = []
    history = HistoryWriter(tmp_path / "metrics.jsonl", 10, said.append)
    history.on_train_begin(TrainingPlan(100, 1, 0))
    learn(history, range(1, 26))
    history.on_train_begin(TrainingPlan(100, 1, 25))
    assert said == []
    if damage in ("both files", "lines"):
        history.path.unlink()
    if damage in ("both files", "steps"):
        history.steps.unlink()
    if damage == "end":
        history.steps.write_text("".join(history.steps.read_text().splitlines(keepends=True)[:-1]))
    history.on_train_begin(TrainingPlan(100, 1, 25))
    assert said == [
        "metrics.jsonl is damaged: some of what it told of the first 25 steps is lost, and so is that of the report's"
        " curves; the weights don't depend on it"
    ]
    assert history.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("skipped", [3, 10, 20, 25])
def test_a_skipped_step_is_no_damage(skipped: int, tmp_path: Path) -> None:
    said: list[str] = []
    history = HistoryWriter(tmp_path / "metrics.jsonl", 10, said.append)
    history.on_train_begin(TrainingPlan(100, 1, 0))
    learn(history, range(1, 26), skipped)
    history.on_train_begin(TrainingPlan(100, 1, 25))
    assert said == []
