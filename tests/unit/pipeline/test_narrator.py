"""What a terminal shows while a run goes on: one live display at a time."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console
from rich.live import Live

from afina.config.reason import Reason
from afina.pipeline.narrator import ConsoleNarrator, Narrator
from afina.runs.folder import RunFolder
from afina.runs.reasons import ReasonsFile
from afina.training.events import TrainingPlan, notify


class StrictConsole(Console):
    """A terminal that takes one live display at a time, as those of the oldest versions of rich that are allowed."""

    live: Live | None = None

    def set_live(self, live: Live) -> bool:
        assert self.live is None, "a live display within another one"
        self.live = live
        super().set_live(live)
        return True

    def clear_live(self) -> None:
        self.live = None
        super().clear_live()


def test_training_shows_its_bar_and_no_other_live_display() -> None:
    narrator = ConsoleNarrator()
    narrator.console = StrictConsole(file=io.StringIO(), force_terminal=True)
    callbacks = narrator.callbacks()
    with narrator.stage("train"):
        notify(callbacks, "on_train_begin", TrainingPlan(total_steps=3, epochs=1, first_step=0))
        assert narrator.console.live is not None
        notify(callbacks, "on_train_end", 3, {})
    assert narrator.console.live is None
    assert "train" in narrator.stage_seconds


def test_other_stages_show_their_name() -> None:
    narrator = ConsoleNarrator()
    narrator.console = StrictConsole(file=io.StringIO(), force_terminal=True)
    with narrator.stage("read"):
        assert narrator.console.live is not None
    assert narrator.console.live is None


def test_a_resumed_run_keeps_the_reasons_of_its_beginning(tmp_path: Path) -> None:
    rate, device = (
        Reason("training.learning_rate", 1e-4, "measured"),
        Reason("training.device", "cpu", "no GPU is there"),
    )
    first = Narrator()
    first.keep_reasons(ReasonsFile(tmp_path / "reasons.jsonl"))
    first.explain(rate)
    first.explain(device)

    said: list[str] = []
    again = Narrator()
    again.say = said.append  # type: ignore[method-assign]
    again.keep_reasons(ReasonsFile(tmp_path / "reasons.jsonl"))
    again.explain(Reason("training.learning_rate", 1e-4, "as given"))
    moved = Reason("training.device", "cuda", "as given")
    again.explain(moved)
    assert said == ["training.learning_rate = 0.0001: measured", "training.device = cuda: as given"]
    assert again.reasons == [rate, device, moved]
    assert ReasonsFile(tmp_path / "reasons.jsonl").read() == [rate, device, moved]


def test_reasons_of_one_process_are_all_told() -> None:
    narrator = Narrator()
    for words in ("first", "second"):
        narrator.explain(Reason("seed", 4, words))
    assert [reason.reason for reason in narrator.reasons] == ["first", "second"]


def test_a_resumed_run_goes_on_counting_its_seconds(tmp_path: Path) -> None:
    first = Narrator()
    first.keep_time(RunFolder(tmp_path))
    first.began -= 100
    with first.stage("load"):
        pass
    with first.stage("train"):  # killed here
        first.running["train"] -= 60
        assert first.status
        first.status.tell("training", step=3)
        first.status.written_at = -10
        first.status.tell("training", step=4)
    stored = json.loads((tmp_path / "status.json").read_text())
    assert stored["seconds"] > 100
    assert stored["stage_seconds"]["train"] > 60
    second = Narrator()
    second.keep_time(RunFolder(tmp_path))
    second.began -= 10
    assert 110 < second.seconds < 115
    with second.stage("train"):
        second.running["train"] -= 5
        assert 65 < second.describe_time()["stage_seconds"]["train"] < 70
    assert set(second.stage_seconds) == {"load", "train"}
    assert second.stage_seconds["train"] > 60
