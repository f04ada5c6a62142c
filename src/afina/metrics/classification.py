"""Scores and tables for one label a row, from the probabilities of the classes.

Decisions: the predicted class is the most probable one, the first of equals; rows of probabilities sum to 1.

Shapes: N rows, C classes, B bins of confidence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from afina.metrics.counts import Floats, Ints, divide, score_counts

CALIBRATION_BINS = 15
SMALLEST_PROBABILITY = 1e-12


def score_classification(probabilities_NC: NDArray[Any], labels_N: NDArray[Any]) -> dict[str, float]:
    """Scores by name: accuracy, f1_macro, f1_weighted, mcc, loss, calibration_error and brier.

    For two classes also roc_auc and average_precision. `loss` is the mean negative log likelihood in nats;
    probabilities below 1e-12 count as 1e-12. `brier` is the sum of squared differences over the classes, mean
    over the rows (Brier 1950): from 0 to 2. `calibration_error` is `measure_calibration_error`. `roc_auc` and
    `average_precision` take class 1 as the positive one and are left out where the labels hold one class
    only.

    Raises ValueError where there are no rows or the shapes don't fit.
    """
    probabilities_NC, labels_N = _check_rows(probabilities_NC, labels_N)
    rows, classes = probabilities_NC.shape
    counts_CC = confusion_counts(probabilities_NC.argmax(axis=1), labels_N, classes)
    by_count = score_counts(np.diagonal(counts_CC), counts_CC.sum(axis=1), counts_CC.sum(axis=0))
    scores = {name: float(value) for name, value in by_count.items()}
    likelihood_N = probabilities_NC[np.arange(rows), labels_N]
    scores["loss"] = float(-np.log(np.clip(likelihood_N, SMALLEST_PROBABILITY, 1.0)).mean())
    scores["calibration_error"] = measure_calibration_error(probabilities_NC, labels_N)
    scores["brier"] = float(((probabilities_NC**2).sum(axis=1) - 2 * likelihood_N + 1).mean())
    if classes == 2 and 0 < labels_N.sum() < rows:
        scores |= _score_ranking(probabilities_NC[:, 1], labels_N)
    return scores


def _score_ranking(positive_N: Floats, labels_N: Ints) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    return {
        "roc_auc": float(roc_auc_score(labels_N, positive_N)),
        "average_precision": float(average_precision_score(labels_N, positive_N)),
    }


def _check_rows(probabilities_NC: NDArray[Any], labels_N: NDArray[Any]) -> tuple[Floats, Ints]:
    probabilities_NC, labels_N = np.asarray(probabilities_NC, np.float64), np.asarray(labels_N, np.int64)
    if probabilities_NC.ndim != 2 or labels_N.shape != probabilities_NC.shape[:1] or not labels_N.size:
        raise ValueError(
            f"expected probabilities of shape (N, C) and N labels, N at least 1; "
            f"found the shapes {probabilities_NC.shape} and {labels_N.shape}"
        )
    if labels_N.min() < 0 or labels_N.max() >= probabilities_NC.shape[1]:
        raise ValueError(f"labels must lie between 0 and {probabilities_NC.shape[1] - 1}")
    return probabilities_NC, labels_N


def confusion_counts(predictions_N: NDArray[Any], labels_N: NDArray[Any], classes: int) -> Ints:
    """Matrix (C, C) of row counts: one row of it a true class, one column a predicted class."""
    cells_N = np.asarray(labels_N, np.int64) * classes + np.asarray(predictions_N, np.int64)
    return np.bincount(cells_N, minlength=classes * classes).reshape(classes, classes)


def per_class(predictions_N: NDArray[Any], labels_N: NDArray[Any], classes: int) -> list[dict[str, float | int]]:
    """One entry a class, in their order: label (its index), precision, recall, f1, support (true rows).

    A ratio without rows below the line is 0, as scikit-learn has it.
    """
    counts_CC = confusion_counts(predictions_N, labels_N, classes)
    return tabulate_counts(np.diagonal(counts_CC), counts_CC.sum(axis=1), counts_CC.sum(axis=0))


def tabulate_counts(hits_C: Ints, true_C: Ints, predicted_C: Ints) -> list[dict[str, float | int]]:
    """One entry a label: label (its index), precision, recall, f1, support."""
    precision_C, recall_C = divide(hits_C, predicted_C), divide(hits_C, true_C)
    f1_C = divide(2 * hits_C, true_C + predicted_C)
    return [
        {
            "label": index,
            "precision": float(precision_C[index]),
            "recall": float(recall_C[index]),
            "f1": float(f1_C[index]),
            "support": int(true_C[index]),
        }
        for index in range(len(true_C))
    ]


def calibration_bins(
    probabilities_NC: NDArray[Any], labels_N: NDArray[Any], bins: int = CALIBRATION_BINS
) -> list[dict[str, float | int]]:
    """One entry a bin of equal width, empty ones too: low, high, confidence, accuracy (means), count.

    A row belongs to the bin with low < confidence <= high, confidence being the probability of the predicted
    class.
    """
    probabilities_NC, labels_N = _check_rows(probabilities_NC, labels_N)
    confidence_N = probabilities_NC.max(axis=1)
    right_N = probabilities_NC.argmax(axis=1) == labels_N
    edges = np.arange(bins + 1) / bins
    bin_N = np.clip(np.searchsorted(edges, confidence_N, side="left") - 1, 0, bins - 1)
    count_B = np.bincount(bin_N, minlength=bins)
    confidence_B = divide(np.bincount(bin_N, confidence_N, bins), count_B)
    accuracy_B = divide(np.bincount(bin_N, right_N, bins), count_B)
    return [
        {
            "low": float(edges[index]),
            "high": float(edges[index + 1]),
            "confidence": float(confidence_B[index]),
            "accuracy": float(accuracy_B[index]),
            "count": int(count_B[index]),
        }
        for index in range(bins)
    ]


def measure_calibration_error(probabilities_NC: NDArray[Any], labels_N: NDArray[Any]) -> float:
    """Expected calibration error: sum over 15 bins of count / N * |accuracy - confidence|, from 0.

    Naeini, Cooper and Hauskrecht 2015 (AAAI); for the most probable class: Guo et al. 2017, arXiv:1706.04599,
    eq. 3.
    """
    table = calibration_bins(probabilities_NC, labels_N)
    rows = sum(row["count"] for row in table)
    return float(sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in table) / rows)
