"""One class for each text (or pair of texts), or any number of labels.

The loss of a row is its cross-entropy, or the mean over labels of the binary cross-entropy.
Letters: N rows of a set, B of a batch, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from afina.data.labels import LabelSpace
from afina.metrics import classification, intervals, multilabel
from afina.metrics.paired import ScoredRows
from afina.metrics.primary import PRIMARY_METRICS
from afina.metrics.probabilities import sigmoid, softmax
from afina.tasks.base import Floats, HeadShape, Labels, TaskState

if TYPE_CHECKING:
    import torch

# A label without positives in training would weigh infinitely; more than this says nothing more.
LARGEST_POSITIVE_WEIGHT = 100.0
# Held-out rows of a label below which a tuned threshold would follow chance.
FEWEST_POSITIVES = 10


class TextClassification:
    """See `Task`. Labels are class numbers of shape (N,), or 0/1 marks of shape (N, C)."""

    name = "text-classification"

    def __init__(self, labels: LabelSpace) -> None:
        self.labels = labels
        self.many = labels.kind == "multilabel"
        self.primary_metric = PRIMARY_METRICS[labels.kind]

    def head_shape(self) -> HeadShape:
        problem_type = "multi_label_classification" if self.many else "single_label_classification"
        return HeadShape(len(self.labels.names), problem_type, self.labels.names)

    def learn_from(self, labels: Labels, class_weight: str, head_has_bias: bool) -> TaskState:
        if class_weight == "none":
            return TaskState()
        return TaskState(class_weights=tuple(balance_labels(labels) if self.many else self._balance_classes(labels)))

    def _balance_classes(self, labels_N: Labels) -> list[float]:
        counts_C = np.bincount(labels_N, minlength=len(self.labels.names))
        weights_C = len(labels_N) / (len(counts_C) * np.maximum(counts_C, 1))
        return [round(float(weight), 6) for weight in weights_C]

    def losses(self, logits_BC: torch.Tensor, labels: torch.Tensor, state: TaskState) -> torch.Tensor:
        import torch
        from torch.nn import functional

        logits_BC = logits_BC.float()
        weights_C = torch.tensor(state.class_weights, device=logits_BC.device) if state.class_weights else None
        if self.many:
            return functional.binary_cross_entropy_with_logits(
                logits_BC, labels.float(), pos_weight=weights_C, reduction="none"
            ).mean(dim=1)
        return functional.cross_entropy(logits_BC, labels, weight=weights_C, reduction="none")

    def row_weights(self, labels: Labels, state: TaskState) -> Floats:
        if self.many or not state.class_weights:
            return np.ones(len(labels), np.float32)
        return np.asarray(state.class_weights, np.float32)[labels]

    def probabilities(self, logits_NC: Floats) -> Floats:
        """Softmax over classes, or a sigmoid for each label, shape (N, C)."""
        if self.many:
            return sigmoid(logits_NC).astype(np.float32)
        return softmax(logits_NC).astype(np.float32)

    def thresholds(self, state: TaskState) -> Floats:
        """From which probability each label is given, shape (C,)."""
        return np.asarray(state.thresholds or [0.5] * len(self.labels.names), np.float32)

    def rescale(self, logits_NC: Floats, state: TaskState) -> Floats:
        return logits_NC

    def score(self, logits_NC: Floats, labels: Labels, state: TaskState) -> dict[str, float]:
        if self.many:
            return multilabel.score_multilabel(self.probabilities(logits_NC), labels, self.thresholds(state))
        return classification.score_classification(self.probabilities(logits_NC), labels)

    def rank(self, scores: Mapping[str, float]) -> float:
        return scores[self.primary_metric]

    def intervals(
        self, logits_NC: Floats, labels: Labels, state: TaskState, resamples: int, seed: int
    ) -> dict[str, tuple[float, float]]:
        if self.many:
            marks_NC = self.probabilities(logits_NC) >= self.thresholds(state)
            return intervals.bootstrap_multilabel(marks_NC, labels, resamples, seed)
        classes = len(self.labels.names)
        return intervals.bootstrap_classification(logits_NC.argmax(axis=1), labels, classes, resamples, seed)

    def outcomes(self, logits_NC: Floats, labels: Labels, state: TaskState) -> ScoredRows:
        if self.many:
            marks_NC = self.probabilities(logits_NC) >= self.thresholds(state)
            return ScoredRows("multilabel", labels.astype(np.int64), marks_NC.astype(np.int64))
        return ScoredRows("multiclass", labels, logits_NC.argmax(axis=1))

    def tune(self, logits_NC: Floats, labels: Labels, state: TaskState) -> TaskState:
        if not self.many:
            return state
        tuned_C = multilabel.tune_thresholds(self.probabilities(logits_NC), labels)
        thresholds_C = np.where(labels.sum(axis=0, dtype=np.int64) >= FEWEST_POSITIVES, tuned_C, 0.5)
        rounded = tuple(round(float(threshold), 6) for threshold in thresholds_C)
        return TaskState(state.class_weights, state.target_mean, state.target_scale, rounded)

    def describe(self, logits_NC: Floats, labels: Labels, state: TaskState) -> dict[str, Any]:
        probabilities_NC = self.probabilities(logits_NC)
        names = list(self.labels.names)
        if self.many:
            table = multilabel.per_label(probabilities_NC, labels, self.thresholds(state))
            return {"per_class": name_rows(table, names)}
        predictions_N = logits_NC.argmax(axis=1)
        counts_CC = classification.confusion_counts(predictions_N, labels, len(names))
        return {
            "per_class": name_rows(classification.per_class(predictions_N, labels, len(names)), names),
            "confusion": {"names": names, "counts": counts_CC.tolist()},
            "calibration": classification.calibration_bins(probabilities_NC, labels),
        }

    def predict(self, logits_NC: Floats, state: TaskState) -> Sequence[dict[str, Any]]:
        names = self.labels.names
        probabilities_NC = self.probabilities(logits_NC)
        given: Sequence[Any]
        if self.many:
            marks_NC = probabilities_NC >= self.thresholds(state)
            given = [[names[i] for i in np.flatnonzero(marks_C)] for marks_C in marks_NC]
        else:
            given = [names[i] for i in logits_NC.argmax(axis=1)]
        return [
            {"prediction": value, "probabilities": dict(zip(names, row.tolist(), strict=True))}
            for value, row in zip(given, probabilities_NC, strict=True)
        ]

    def errors(self, logits_NC: Floats, labels: Labels, state: TaskState, most: int) -> list[dict[str, Any]]:
        probabilities_NC = self.probabilities(logits_NC)
        if self.many:
            wrong_NC = (probabilities_NC >= self.thresholds(state)) != labels.astype(bool)
            confidence_N = np.where(wrong_NC, np.abs(probabilities_NC - labels), 0.0).max(axis=1)
            wrong = np.flatnonzero(wrong_NC.any(axis=1))
        else:
            confidence_N = probabilities_NC.max(axis=1)
            wrong = np.flatnonzero(logits_NC.argmax(axis=1) != labels)
        worst = wrong[np.argsort(-confidence_N[wrong], kind="stable")][:most]
        predictions = self.predict(logits_NC[worst], state)
        return [
            {"index": int(i), "label": self._name(labels[i]), "predicted": join_names(row["prediction"]),
             "confidence": float(confidence_N[i])}
            for i, row in zip(worst, predictions, strict=True)
        ]  # fmt: skip

    def _name(self, label: Any) -> str:
        names = self.labels.names
        return join_names([names[i] for i in np.flatnonzero(label)]) if self.many else names[int(label)]


def balance_labels(labels_NC: Labels) -> list[float]:
    """Negatives over positives of each label, at most `LARGEST_POSITIVE_WEIGHT`, shape (C,)."""
    positives_C = labels_NC.sum(axis=0, dtype=np.int64)
    weights_C = (len(labels_NC) - positives_C) / np.maximum(positives_C, 1)
    return [round(float(weight), 6) for weight in np.clip(weights_C, 1e-2, LARGEST_POSITIVE_WEIGHT)]


def name_rows(table: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """The rows of a per-class table with the class's name in place of its number."""
    return [{"name": names[row["label"]], **{k: v for k, v in row.items() if k != "label"}} for row in table]


def join_names(names: str | list[str]) -> str:
    """One string for one class or several; a dash for none."""
    return names if isinstance(names, str) else ", ".join(names) or "-"
