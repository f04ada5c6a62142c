"""95 % intervals of test scores: the percentile bootstrap over the rows of the test part (Efron 1979).

An interval says how far a score moves with other test rows of the same kind; it says nothing about other
seeds. Drawing N rows with replacement and counting the cells of the confusion matrix is one draw of a
multinomial, so that classification never touches single rows; the other kinds draw how often each row stands
in a resample.

Shapes: R resamples, N rows, C classes or labels, K cells of the confusion matrix that hold rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afina.metrics import multilabel, regression
from afina.metrics.classification import confusion_counts
from afina.metrics.counts import Floats, Ints, score_counts

Interval = tuple[float, float]
PERCENTILES = (2.5, 97.5)
CHUNK_ELEMENTS = 2_000_000
"""Numbers held at once for a chunk of resamples: 16 MB an array."""


def bootstrap_classification(
    predictions_N: NDArray[Any], labels_N: NDArray[Any], classes: int, resamples: int, seed: int
) -> dict[str, Interval]:
    """Bounds (low, high) of accuracy, f1_macro, f1_weighted and mcc; nothing where `resamples` is 0."""
    counts_CC = confusion_counts(predictions_N, labels_N, classes)
    return _bound_scores(score_counts(*counts) for counts in draw_confusions(counts_CC, resamples, seed))


def bootstrap_multilabel(
    predictions_NC: NDArray[Any], labels_NC: NDArray[Any], resamples: int, seed: int
) -> dict[str, Interval]:
    """Bounds (low, high) of f1_micro, f1_macro and subset_accuracy; both matrices hold 0 and 1."""
    predictions_NC, labels_NC = np.asarray(predictions_NC, np.int64), np.asarray(labels_NC).astype(np.int64)
    draws = draw_weights(len(labels_NC), resamples, seed)
    return _bound_scores(multilabel.score_predictions(predictions_NC, labels_NC, weights_RN) for weights_RN in draws)


def bootstrap_regression(
    predictions_N: NDArray[Any], targets_N: NDArray[Any], resamples: int, seed: int
) -> dict[str, Interval]:
    """Bounds (low, high) of rmse, mae, r2, pearson and spearman.

    Resamples for which a score is undefined are left out of its interval; a score that never is defined has
    none.
    """
    predictions_N, targets_N = np.asarray(predictions_N, np.float64), np.asarray(targets_N, np.float64)
    draws = draw_weights(len(targets_N), resamples, seed)
    return _bound_scores(regression.score_resamples(predictions_N, targets_N, weights_RN) for weights_RN in draws)


def bootstrap_rows(
    score: Callable[[Floats], dict[str, Floats]], rows: int, resamples: int, seed: int
) -> dict[str, Interval]:
    """Bounds (low, high) of the scores that `score` gives for weights (R, N) of `rows` rows."""
    return _bound_scores(score(weights_RN) for weights_RN in draw_weights(rows, resamples, seed))


def bootstrap_ratio(parts_N: NDArray[Any], wholes_N: NDArray[Any], resamples: int, seed: int) -> Interval:
    """Bounds (low, high) of sum(parts) / sum(wholes), such as a mean over tokens: those of a row stay together."""

    def score(weights_RN: Floats) -> dict[str, Floats]:
        return {"ratio": (weights_RN @ parts_N) / np.maximum(weights_RN @ wholes_N, 1)}

    return bootstrap_rows(score, len(parts_N), resamples, seed)["ratio"]


def draw_confusions(counts_CC: Ints, resamples: int, seed: int) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Chunks of resampled (hits, true rows, predicted rows), each of shape (R, C)."""
    generator = np.random.default_rng(seed)
    true_K, predicted_K = np.nonzero(counts_CC)
    cells_K = counts_CC[true_K, predicted_K]
    rows = int(cells_K.sum())
    for size in _split_resamples(resamples, len(cells_K)):
        drawn_RK = generator.multinomial(rows, cells_K / rows, size=size)
        hits_RK = drawn_RK * (true_K == predicted_K)
        yield (
            sum_by_class(hits_RK, true_K, len(counts_CC)),
            sum_by_class(drawn_RK, true_K, len(counts_CC)),
            sum_by_class(drawn_RK, predicted_K, len(counts_CC)),
        )


def draw_weights(rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Chunks (R, N) that say how often each row stands in each resample of N rows."""
    generator = np.random.default_rng(seed)
    for size in _split_resamples(resamples, rows):
        drawn_RN = generator.integers(0, rows, size=(size, rows)) + rows * np.arange(size)[:, None]
        yield np.bincount(drawn_RN.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)


def _split_resamples(resamples: int, width: int) -> Iterator[int]:
    chunk = max(1, CHUNK_ELEMENTS // max(1, width))
    for start in range(0, resamples, chunk):
        yield min(chunk, resamples - start)


def sum_by_class(values_RK: Ints, class_K: Ints, classes: int) -> Ints:
    """Sums (R, C) of the values whose place belongs to each class."""
    order_K = np.argsort(class_K, kind="stable")
    present, starts = np.unique(class_K[order_K], return_index=True)
    sums_RC = np.zeros((len(values_RK), classes), np.int64)
    sums_RC[:, present] = np.add.reduceat(values_RK[:, order_K], starts, axis=1)
    return sums_RC


def _bound_scores(chunks: Iterable[dict[str, Floats]]) -> dict[str, Interval]:
    collected: dict[str, list[Floats]] = {}
    for chunk in chunks:
        for name, value_R in chunk.items():
            collected.setdefault(name, []).append(value_R)
    bounds = {}
    for name, parts in collected.items():
        values = np.concatenate(parts)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = np.percentile(values, PERCENTILES)
            bounds[name] = (float(low), float(high))
    return bounds
