"""What the loop tells while it runs. A callback overrides what is of interest to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrainingPlan:
    """How long a training will be, for those who show it."""

    total_steps: int
    epochs: int
    first_step: int
    """Steps that were done before (resumed runs)."""


@dataclass(frozen=True)
class Incident:
    """Something that isn't as it should be, and that the run goes on in spite of."""

    kind: str
    """`skipped_step`, `spike` or `smaller_passes`."""
    text: str
    """For people, one line."""
    values: dict[str, Any]
    """For programs."""


class StopTraining(Exception):
    """Raised by a listener to end the training there, as when patience runs out: the best evaluation so far counts."""


class Callback:
    """A listener; override what is of interest."""

    def on_train_begin(self, plan: TrainingPlan) -> None:
        """Before the first step."""

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        """After a step that wasn't skipped: `loss`, `learning_rate`, `grad_norm`, `epoch`, `rows`, `tokens`."""

    def on_incident(self, step: int, incident: Incident) -> None:
        """When something odd came up in the step that is being taken, as it will be counted."""

    def on_evaluate_begin(self, step: int) -> None:
        """Before an evaluation."""

    def on_evaluate_end(self, step: int, values: dict[str, float]) -> None:
        """After an evaluation: `validation/...`, `epoch`."""

    def on_checkpoint_begin(self, step: int) -> None:
        """Before a checkpoint is written."""

    def on_checkpoint(self, step: int, folder: str) -> None:
        """After a checkpoint is on disk."""

    def on_train_end(self, step: int, values: dict[str, Any]) -> None:
        """After the last step, or when training stops early."""

    def close(self) -> None:
        """When training is over, also by an error."""


def notify(callbacks: Sequence[Callback], event: str, *values: Any) -> None:
    """Call one method of every callback, in order."""
    for callback in callbacks:
        getattr(callback, event)(*values)
