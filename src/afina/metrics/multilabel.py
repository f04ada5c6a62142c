"""Scores and thresholds for any number of labels a row, from one probability a label.

Decisions: a label is predicted where its probability is at least its threshold; thresholds are tuned on the
validation part, never on the test part. Macro F1 runs over all labels (scikit-learn's convention for this
kind).

Shapes: N rows, C labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from afina.metrics.classification import SMALLEST_PROBABILITY, tabulate_counts
from afina.metrics.counts import Floats, Ints, divide

DEFAULT_THRESHOLD = 0.5


def tune_thresholds(probabilities_NC: NDArray[Any], labels_NC: NDArray[Any]) -> Floats:
    """Threshold of each label, shape (C,): the one with the highest F1 on these rows.

    Candidates lie halfway between neighbouring probabilities; among equals the one nearest to 0.5 wins. A
    label without a positive row keeps 0.5. Raises ValueError where the shapes don't fit.
    """
    probabilities_NC, labels_NC = _check_rows(probabilities_NC, labels_NC)
    order_NC = np.argsort(-probabilities_NC, axis=0, kind="stable")
    sorted_NC = np.take_along_axis(probabilities_NC, order_NC, axis=0)
    hits_NC = np.cumsum(np.take_along_axis(labels_NC, order_NC, axis=0), axis=0)
    positives_C = hits_NC[-1]
    predicted_N1 = np.arange(1, len(labels_NC) + 1)[:, None]
    f1_NC = divide(2 * hits_NC, predicted_N1 + positives_C)
    below_NC = np.vstack([sorted_NC[1:], np.zeros_like(sorted_NC[:1])])
    middle_NC = (sorted_NC + below_NC) / 2
    # Between two neighbouring floats there is no middle; the upper one separates them as well.
    candidate_NC = np.where(middle_NC > below_NC, middle_NC, sorted_NC)
    f1_NC[:-1][sorted_NC[:-1] == sorted_NC[1:]] = -1.0
    distance_NC = np.where(f1_NC == f1_NC.max(axis=0), np.abs(candidate_NC - DEFAULT_THRESHOLD), np.inf)
    best_C = distance_NC.argmin(axis=0)
    tuned_C = candidate_NC[best_C, np.arange(labels_NC.shape[1])]
    return np.where(positives_C > 0, tuned_C, DEFAULT_THRESHOLD)


def predict_labels(probabilities_NC: NDArray[Any], thresholds_C: NDArray[Any]) -> Ints:
    """Matrix (N, C) of 0 and 1: whether each label is predicted."""
    return (np.asarray(probabilities_NC, np.float64) >= np.asarray(thresholds_C, np.float64)).astype(np.int64)


def score_multilabel(
    probabilities_NC: NDArray[Any], labels_NC: NDArray[Any], thresholds_C: NDArray[Any]
) -> dict[str, float]:
    """Scores by name: f1_micro, f1_macro, subset_accuracy, hamming_loss, loss.

    `subset_accuracy` is the share of rows with every label right, `hamming_loss` the share of wrong cells,
    `loss` the mean binary cross-entropy of a cell in nats. Raises ValueError where there are no rows or the
    shapes don't fit.
    """
    probabilities_NC, labels_NC = _check_rows(probabilities_NC, labels_NC)
    predictions_NC = predict_labels(probabilities_NC, thresholds_C)
    scores = {name: float(value) for name, value in score_predictions(predictions_NC, labels_NC).items()}
    scores["hamming_loss"] = float((predictions_NC != labels_NC).mean())
    likelihood_NC = np.where(labels_NC == 1, probabilities_NC, 1 - probabilities_NC)
    scores["loss"] = float(-np.log(np.clip(likelihood_NC, SMALLEST_PROBABILITY, 1.0)).mean())
    return scores


def score_predictions(
    predictions_NC: Ints, labels_NC: Ints, weights_RN: NDArray[Any] | None = None
) -> dict[str, Floats]:
    """f1_micro, f1_macro and subset_accuracy, each of shape (R,), or scalars without weights.

    `weights_RN` says how often each row stands in each resample. Macro F1 runs over all labels, one that no row has and
    none is given counting 0; where it is a resample alone that lacks a label, this says nothing of it and is left out.
    """
    weights = np.ones(len(labels_NC)) if weights_RN is None else np.asarray(weights_RN, np.float64)
    hits_C = weights @ (predictions_NC * labels_NC).astype(np.float64)
    either_C = weights @ (predictions_NC + labels_NC).astype(np.float64)
    right_N = (predictions_NC == labels_NC).all(axis=1).astype(np.float64)
    return {
        "f1_micro": divide(2 * hits_C.sum(axis=-1), either_C.sum(axis=-1)),
        "f1_macro": divide(
            divide(2 * hits_C, either_C).sum(axis=-1), count_scored(either_C, predictions_NC + labels_NC)
        ),
        "subset_accuracy": divide(weights @ right_N, weights.sum(axis=-1)),
    }


def count_scored(either_RC: Floats, either_NC: Ints) -> Ints:
    """Labels over which macro F1 runs (R,): all but those that stand in the rows and not in the resample."""
    lacking_RC = (either_RC == 0) & (either_NC.sum(axis=0) > 0)
    scored: Ints = (~lacking_RC).sum(axis=-1)
    return scored


def per_label(
    probabilities_NC: NDArray[Any], labels_NC: NDArray[Any], thresholds_C: NDArray[Any]
) -> list[dict[str, float | int]]:
    """One entry a label, in their order: label (its index), precision, recall, f1, support, threshold."""
    probabilities_NC, labels_NC = _check_rows(probabilities_NC, labels_NC)
    predictions_NC = predict_labels(probabilities_NC, thresholds_C)
    table = tabulate_counts((predictions_NC * labels_NC).sum(axis=0), labels_NC.sum(axis=0), predictions_NC.sum(axis=0))
    return [row | {"threshold": float(thresholds_C[index])} for index, row in enumerate(table)]


def _check_rows(probabilities_NC: NDArray[Any], labels_NC: NDArray[Any]) -> tuple[Floats, Ints]:
    probabilities_NC, labels_NC = (
        np.asarray(probabilities_NC, np.float64),
        np.asarray(labels_NC).astype(np.int64),
    )
    if probabilities_NC.ndim != 2 or probabilities_NC.shape != labels_NC.shape or not labels_NC.size:
        raise ValueError(
            f"expected probabilities and labels of the same shape (N, C), N at least 1; "
            f"found the shapes {probabilities_NC.shape} and {labels_NC.shape}"
        )
    return probabilities_NC, labels_NC
