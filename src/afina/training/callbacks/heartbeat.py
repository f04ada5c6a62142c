"""Where the loop stands, told to whoever keeps the run's status."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from afina.training.events import Callback, TrainingPlan

# Steps differ in length: the rates are of about the last minute.
RATE_SECONDS = 60.0


class Heartbeat(Callback):
    """Tells state and figures at every event; the listener decides how often they are written.

    Args:
        tell: takes a state and, by name, what has changed.
    """

    def __init__(self, tell: Callable[..., None]) -> None:
        self.tell = tell
        self.state = "training"

    def on_train_begin(self, plan: TrainingPlan) -> None:
        self.total_steps = plan.total_steps
        self.rates = Rates(time.monotonic())
        self.enter("training", step=plan.first_step, total_steps=plan.total_steps, epochs=plan.epochs)

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        self.rates.add(time.monotonic(), values["rows"], values["tokens"])
        found = {"step": step, "epoch": values["epoch"], "loss": values["loss"]}
        self.enter("training", **found, **self.rates.describe(self.total_steps - step))

    def on_evaluate_begin(self, step: int) -> None:
        self.enter("evaluating", step=step)

    def on_evaluate_end(self, step: int, values: dict[str, float]) -> None:
        self.enter("training", validation_loss=values["validation/loss"])

    def on_checkpoint_begin(self, step: int) -> None:
        self.tell("saving", step=step)

    def on_checkpoint(self, step: int, folder: str) -> None:
        self.tell(self.state, checkpoint_step=step)

    def on_train_end(self, step: int, values: dict[str, Any]) -> None:
        self.enter("evaluating", step=step, seconds_left=None)

    def enter(self, state: str, **values: Any) -> None:
        """Tell a state that a checkpoint may interrupt."""
        self.state = state
        self.tell(state, **values)


class Rates:
    """Rows, tokens and steps a second as they go by, evaluations and checkpoints included."""

    def __init__(self, now: float) -> None:
        self.marks = [(now, 0.0, 0.0, 0.0)]
        """Time, and the steps, rows and tokens up to then."""

    def add(self, now: float, rows: float, tokens: float) -> None:
        """A step has ended."""
        _, all_steps, all_rows, all_tokens = self.marks[-1]
        self.marks.append((now, all_steps + 1, all_rows + rows, all_tokens + tokens))
        while len(self.marks) > 2 and now - self.marks[1][0] > RATE_SECONDS:
            del self.marks[0]

    def describe(self, steps_left: int) -> dict[str, float]:
        """`rows_per_second`, `tokens_per_second` and `seconds_left`."""
        first, last = self.marks[0], self.marks[-1]
        seconds, steps, rows, tokens = (after - before for before, after in zip(first, last, strict=True))
        seconds = max(seconds, 1e-9)
        return {
            "rows_per_second": round(rows / seconds, 3),
            "tokens_per_second": round(tokens / seconds, 1),
            "seconds_left": round(steps_left * seconds / steps, 1),
        }
