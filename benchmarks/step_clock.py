"""Listeners for afina's loop, since single steps are timed from inside."""

from __future__ import annotations

import time
from collections.abc import Sequence

from afina.pipeline.narrator import Narrator
from afina.training.events import Callback, TrainingPlan
from step_profile import StepProfile


class StepClock(Callback):
    """Keeps loss and seconds of each optimizer step, collation included, evaluations and checkpoints not."""

    def __init__(self) -> None:
        self.step_seconds: list[float] = []
        self.losses: list[float] = []

    def on_train_begin(self, plan: TrainingPlan) -> None:
        self.last = time.perf_counter()

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        now = time.perf_counter()  # the step has read its loss, so a GPU has nothing left to do
        self.step_seconds.append(now - self.last)
        self.losses.append(values["loss"])
        self.last = now

    def on_checkpoint(self, step: int, folder: str) -> None:
        self.last = time.perf_counter()


class SilentNarrator(Narrator):
    """Says nothing and listens to the loop.

    Args:
        profiles: whether a few steps are profiled too.
    """

    def __init__(self, *, profiles: bool = False) -> None:
        super().__init__()
        self.clock = StepClock()
        self.profile = StepProfile() if profiles else None

    def callbacks(self) -> Sequence[Callback]:
        return (self.clock, self.profile) if self.profile else (self.clock,)
