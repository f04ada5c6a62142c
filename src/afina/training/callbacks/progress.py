"""What a person sees while a training runs: a live bar in a terminal, plain lines elsewhere. All on stderr."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from afina.training.events import Callback, TrainingPlan

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 10.0


class ProgressBar(Callback):
    """A rich bar with loss, rows a second and time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Progress | None = None

    def on_train_begin(self, plan: TrainingPlan) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[rate]} rows/s"), TimeRemainingColumn(), console=self.console, transient=True,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=plan.total_steps, completed=plan.first_step, loss="-", rate="-")
        self.bar.start()
        self.last = time.monotonic()

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        assert self.bar is not None
        now = time.monotonic()
        rate = values["rows"] / max(1e-9, now - self.last)
        self.last = now
        self.bar.update(self.task, completed=step, loss=f"{values['loss']:.4f}", rate=f"{rate:.0f}")

    def on_evaluate_end(self, step: int, values: dict[str, float]) -> None:
        self.console.print(describe_evaluation(step, values), highlight=False)

    def on_train_end(self, step: int, values: dict[str, Any]) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the screen (also after an error)."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


class ProgressLines(Callback):
    """A line every few seconds, and one for each evaluation."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def on_train_begin(self, plan: TrainingPlan) -> None:
        self.plan = plan
        self.began = self.last = time.monotonic()

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        if now - self.last < SECONDS_BETWEEN_LINES:
            return
        self.last = now
        done = step - self.plan.first_step
        left = (self.plan.total_steps - step) * (now - self.began) / done
        text = f"step {step}/{self.plan.total_steps}  loss {values['loss']:.4f}  about {left:.0f} s left"
        self.console.print(text, highlight=False)

    def on_evaluate_end(self, step: int, values: dict[str, float]) -> None:
        self.console.print(describe_evaluation(step, values), highlight=False)


def describe_evaluation(step: int, values: dict[str, float]) -> str:
    """One line: epoch, step, and the first scores of the validation part."""
    scores = [
        (name.removeprefix("validation/"), value) for name, value in values.items() if name.startswith("validation/")
    ]
    shown = "  ".join(
        f"{name} {value:.4f}"
        for name, value in scores
        if name in ("loss", "accuracy", "f1", "f1_macro", "f1_micro", "rmse", "spearman")
    )
    return f"epoch {round(values['epoch'], 2):g}, step {step}: validation {shown}"
