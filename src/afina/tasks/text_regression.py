"""One number for each text (or pair of texts).

Targets are standardised while training, since a head that has to reach 100,000 in steps of 1e-5 never arrives; the
scale is folded into the head at the end, so the saved model speaks in the units of the data. The loss of a row is
its squared error in standard deviations. Letters: N rows of a set, B of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from afina.data.labels import LabelSpace
from afina.metrics import intervals, regression
from afina.metrics.paired import ScoredRows
from afina.metrics.primary import PRIMARY_METRICS
from afina.tasks.base import Floats, HeadShape, Labels, TaskState

if TYPE_CHECKING:
    import torch

POINTS_OF_SCATTER = 1000


class TextRegression:
    """See `Task`. Labels are decimals of shape (N,); logits have shape (N, 1)."""

    name = "text-regression"

    def __init__(self, labels: LabelSpace) -> None:
        self.labels = labels
        self.primary_metric = PRIMARY_METRICS[labels.kind]

    def head_shape(self) -> HeadShape:
        return HeadShape(1, "regression", ())

    def learn_from(self, labels: Labels, class_weight: str, head_has_bias: bool) -> TaskState:
        # A head without bias can't hold the mean, so only the scale is taken off.
        mean = float(labels.mean()) if head_has_bias else 0.0
        scale = float(np.sqrt(np.mean((labels.astype(np.float64) - mean) ** 2)))
        return TaskState(target_mean=mean, target_scale=scale or 1.0)

    def losses(self, logits_BC: torch.Tensor, labels: torch.Tensor, state: TaskState) -> torch.Tensor:
        targets_B = (labels.float() - state.target_mean) / state.target_scale
        return (logits_BC.float().squeeze(1) - targets_B) ** 2

    def row_weights(self, labels: Labels, state: TaskState) -> Floats:
        return np.ones(len(labels), np.float32)

    def rescale(self, logits_NC: Floats, state: TaskState) -> Floats:
        return logits_NC * state.target_scale + state.target_mean

    def score(self, logits_NC: Floats, labels: Labels, state: TaskState) -> dict[str, float]:
        return regression.score_regression(logits_NC[:, 0], labels)

    def rank(self, scores: Mapping[str, float]) -> float:
        return -scores[self.primary_metric]

    def intervals(
        self,
        logits_NC: Floats,
        labels: Labels,
        state: TaskState,
        resamples: int,
        seed: int,
    ) -> dict[str, tuple[float, float]]:
        return intervals.bootstrap_regression(logits_NC[:, 0], labels, resamples, seed)

    def outcomes(self, logits_NC: Floats, labels: Labels, state: TaskState) -> ScoredRows:
        return ScoredRows("regression", labels.astype(np.float64), logits_NC[:, 0].astype(np.float64))

    def tune(self, logits_NC: Floats, labels: Labels, state: TaskState) -> TaskState:
        return state

    def describe(self, logits_NC: Floats, labels: Labels, state: TaskState) -> dict[str, Any]:
        pairs = np.stack([labels, logits_NC[:, 0]], axis=1)[:POINTS_OF_SCATTER]
        return {"scatter": [[float(true), float(predicted)] for true, predicted in pairs]}

    def predict(self, logits_NC: Floats, state: TaskState) -> Sequence[dict[str, Any]]:
        return [{"prediction": float(value)} for value in logits_NC[:, 0]]

    def errors(self, logits_NC: Floats, labels: Labels, state: TaskState, most: int) -> list[dict[str, Any]]:
        misses_N = np.abs(logits_NC[:, 0] - labels)
        worst = np.argsort(-misses_N, kind="stable")[:most]
        return [
            {"index": int(i), "label": f"{labels[i]:.4g}", "predicted": f"{logits_NC[i, 0]:.4g}",
             "confidence": float(misses_N[i])}
            for i in worst
        ]  # fmt: skip
