"""One trial while it runs: it is told of scores and time, and ends where one of the two says so."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from afina.advice.search.budget import Budget, describe_seconds
from afina.errors import ConfigError, ResourceError
from afina.training.events import Callback, StopTraining, TrainingPlan

if TYPE_CHECKING:
    from afina.pipeline.search.display import Display

# The first steps of a process are slower: memory is taken, kernels are chosen.
WARM_STEPS = 2
TIMED_STEPS = 3
# What a budget for the default alone should have to spare: steps differ in length.
SPARE = 1.25


class TrialListener(Callback):
    """Listens to the loop of one trial.

    Args:
        metric: score of the validation part that the search goes by.
        report: takes a score and its epoch, and gives whether the trial should end there.
        budget: of the search.
        reserve_seconds: what must be left of it when training ends.
        must_fit: whether the search ends where this trial can't end within the budget.
        note: is told why the trial ends before its end, and after how many scored epochs, before it does: a kill may
            come between the run's report and the word on it.
        is_known: whether other trials have told how long this one takes. One of which that isn't known ends after a few
            steps where they say that it would be cut in its middle, with a learning rate that never went down.
    """

    def __init__(
        self, metric: str, report: Callable[[float, int], bool], budget: Budget, reserve_seconds: float,
        display: Display, note: Callable[[str, int], None], must_fit: bool, is_known: bool = True,
    ) -> None:  # fmt: skip
        self.metric, self.report, self.budget = metric, report, budget
        self.reserve_seconds, self.display, self.note = reserve_seconds, display, note
        self.must_fit, self.is_known = must_fit, is_known
        self.train_seconds = 0.0
        """What the whole training would take, by its first steps; 0 until that is known."""
        self.why = ""
        """Why the trial was ended before its end."""
        self.epochs = 0
        """Epochs that were scored."""
        self.is_short = False
        """Whether it was given up for lack of time."""

    def on_train_begin(self, plan: TrainingPlan) -> None:
        self.plan = plan
        self.steps = 0
        self.timed_from = 0.0

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        self.steps += 1
        self.display.advance(step, self.plan.total_steps, self.budget.left_seconds)
        if self.must_fit or not self.is_known:
            self.check_fit(step)
        if self.budget.left_seconds <= self.reserve_seconds:
            self.stop(f"out of time in epoch {int(values['epoch']) + 1} of {self.plan.epochs}")

    def check_fit(self, step: int) -> None:
        """Refuse the budget, or this trial, as soon as a few steps tell that there is too little time.

        Raises:
            ConfigError: with the time that the first trial needs.
            ResourceError: for another one.
        """
        if self.steps == WARM_STEPS:
            self.timed_from = time.monotonic()
        if self.steps != WARM_STEPS + TIMED_STEPS:
            return
        seconds = (time.monotonic() - self.timed_from) / TIMED_STEPS
        self.train_seconds = seconds * self.plan.total_steps
        needed = self.budget.used_seconds + seconds * (self.plan.total_steps - step) + self.reserve_seconds
        if needed > self.budget.seconds and not self.must_fit:
            left = describe_seconds(self.budget.left_seconds - self.reserve_seconds)
            raise self.give_up(
                f"it would take about {describe_seconds(seconds * (self.plan.total_steps - step))} more, and {left} are"
                " left"
            )
        if needed > self.budget.seconds:
            raise ConfigError(
                f"the budget of {describe_seconds(self.budget.seconds)} is too little for one trial",
                found=f"the default configuration takes about {describe_seconds(needed)}:"
                f" {self.plan.total_steps:,} steps of {seconds:.2g} s",
                expected="time for the default and some more",
                remedy=f"--budget {max(1, round(5 * needed / 60))}m, at least {math.ceil(needed * SPARE / 60)}m,"
                " or fewer epochs: --set num_train_epochs=1",
            )

    def give_up(self, why: str) -> ResourceError:
        """The error that ends a trial for which there is too little time."""
        self.is_short = True
        return ResourceError(why)

    def on_evaluate_end(self, step: int, values: dict[str, float]) -> None:
        epoch = int(values["epoch"])
        if epoch < 1:
            return
        self.epochs = epoch
        score = values.get(f"validation/{self.metric}", math.nan)
        if math.isnan(score):  # undefined, as a correlation with predictions that are all the same
            return
        if self.report(score, epoch) and epoch < self.plan.epochs:
            self.stop(f"stopped after epoch {epoch} of {self.plan.epochs}: in the worse half there")

    def stop(self, why: str) -> NoReturn:
        """End the trial before its end."""
        self.why = why
        self.note(why, self.epochs)
        raise StopTraining
