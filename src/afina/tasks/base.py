"""The seam between what is learned and everything else.

A task says how many numbers the head gives, what the loss of a row is, how held-out rows are scored and how a
prediction is written. It knows nothing of techniques, files or loops. Letters: N rows of a set, B of a batch, C
classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from afina.data.labels import LabelSpace

if TYPE_CHECKING:
    import torch

    from afina.metrics.paired import ScoredRows

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[Any]


@dataclass(frozen=True)
class HeadShape:
    """What a model's config must say about its head, in transformers' words."""

    num_labels: int
    problem_type: str
    names: tuple[str, ...]

    def as_config(self) -> dict[str, Any]:
        """Keyword arguments for a transformers config. A single output has no name worth keeping."""
        settings: dict[str, Any] = {"num_labels": self.num_labels, "problem_type": self.problem_type}
        if self.names:
            settings["id2label"] = dict(enumerate(self.names))
            settings["label2id"] = {name: i for i, name in enumerate(self.names)}
        return settings


@dataclass(frozen=True)
class TaskState:
    """What a task takes from the rows beside the weights: class weights, the scale of targets, thresholds."""

    class_weights: tuple[float, ...] = ()
    """Weight of each class (or of each label's positives); empty means that all count the same."""
    target_mean: float = 0.0
    """What is taken off each target before training."""
    target_scale: float = 1.0
    """What each target is then divided by."""
    thresholds: tuple[float, ...] = field(default=())
    """Probability from which a label is given, tuned on the validation part; empty means 0.5."""

    def as_dict(self) -> dict[str, Any]:
        """For task.json and `load`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaskState:
        """The inverse of `as_dict`, lists made tuples."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})  # type: ignore[arg-type]


class Task(Protocol):
    """What objectives, scoring and predictors see of a task."""

    name: str
    labels: LabelSpace
    primary_metric: str
    """Key of the score that stands in headlines, such as `accuracy`."""

    def head_shape(self) -> HeadShape:
        """What the head must look like."""
        ...

    def learn_from(self, labels: Labels, class_weight: str, head_has_bias: bool) -> TaskState:
        """What the training part's labels say before any step."""
        ...

    def losses(self, logits_BC: torch.Tensor, labels: torch.Tensor, state: TaskState) -> torch.Tensor:
        """Loss of each row times its weight, shape (B,)."""
        ...

    def row_weights(self, labels: Labels, state: TaskState) -> Floats:
        """Weight of each row in the mean, shape (N,): a mean loss is the sum of `losses` over the sum of these."""
        ...

    def rescale(self, logits_NC: Floats, state: TaskState) -> Floats:
        """Logits of a model in training as the saved model will give them: targets back in the data's units."""
        ...

    def score(self, logits_NC: Floats, labels: Labels, state: TaskState) -> dict[str, float]:
        """Every score of these rows, larger or smaller better as its name says."""
        ...

    def rank(self, scores: Mapping[str, float]) -> float:
        """One number to choose a checkpoint by, from the scores of the validation part: the larger the better."""
        ...

    def intervals(
        self, logits_NC: Floats, labels: Labels, state: TaskState, resamples: int, seed: int
    ) -> dict[str, tuple[float, float]]:
        """95 % bootstrap intervals of some of the scores."""
        ...

    def outcomes(self, logits_NC: Floats, labels: Labels, state: TaskState) -> ScoredRows:
        """What is said of each row beside what is true, to be held against what others say of the same rows."""
        ...

    def tune(self, logits_NC: Floats, labels: Labels, state: TaskState) -> TaskState:
        """`state` with what only held-out rows can say (thresholds)."""
        ...

    def describe(self, logits_NC: Floats, labels: Labels, state: TaskState) -> dict[str, Any]:
        """Details for the report: per-class table, confusion counts, calibration, scatter."""
        ...

    def predict(self, logits_NC: Floats, state: TaskState) -> Sequence[dict[str, Any]]:
        """One mapping for each row: `prediction`, and what is known beside it (probabilities)."""
        ...

    def errors(self, logits_NC: Floats, labels: Labels, state: TaskState, most: int) -> list[dict[str, Any]]:
        """The rows that went wrong, worst first: `index`, `label`, `predicted`, `confidence`."""
        ...
