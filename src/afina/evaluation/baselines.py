"""Plain baselines, trained and scored on the same rows as the model: what it has to beat.

Two of them: the answer that ignores the text (the most frequent class, or the mean), and word counts with a
linear model (`linear.py`). Both learn from the training part alone.

Labels by kind: `multiclass` an index into `names` a row; `multilabel` a row of 0 and 1, one a name;
`regression` a number a row. A pair of texts is joined by the caller.

Shapes: N rows, C classes or labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afina.evaluation.linear import fit_linear
from afina.evaluation.prediction import Kind, Prediction, UntrainableError
from afina.metrics.classification import score_classification
from afina.metrics.intervals import (
    Interval,
    bootstrap_classification,
    bootstrap_multilabel,
    bootstrap_regression,
)
from afina.metrics.multilabel import DEFAULT_THRESHOLD, predict_labels, score_multilabel
from afina.metrics.naming import prefix_bounds, prefix_scores
from afina.metrics.paired import ScoredRows
from afina.metrics.regression import score_regression


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline's scores on the test part, by bare names such as `accuracy`; none: the note says why."""

    name: str
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    """95 % bounds of those scores that have them."""
    seconds: float
    """Seconds to train and to predict, the scores not counted: those of the run that did it."""
    note: str = ""
    outcomes: ScoredRows | None = None
    """What it says of each row of the test part; None where it says nothing."""

    def describe(self, part: str = "test", gain: Mapping[str, Interval] | None = None) -> dict[str, Any]:
        """The baseline as a report stores it: its scores are keyed `part/name`, and so is the `gain` over it."""
        return {
            "metrics": prefix_scores(part, self.metrics),
            "intervals": prefix_bounds(part, self.intervals),
            "gain": prefix_bounds(part, gain or {}),
            "seconds": self.seconds,
            "note": self.note,
        }


def score_baselines(
    kind: Kind,
    train_texts: Sequence[str],
    train_labels: NDArray[Any] | Sequence[Any],
    test_texts: Sequence[str],
    test_labels: NDArray[Any] | Sequence[Any],
    names: Sequence[str],
    resamples: int,
    seed: int,
    fit: Callable[..., Prediction] = fit_linear,
) -> list[Baseline]:
    """The baselines, plainest first: `majority` (or `mean`) and `tfidf-linear`.

    `resamples` is the number of bootstrap resamples behind each interval, 0 for none. The same input and seed
    give the same scores. `fit` is `fit_linear`, or what remembers it. Raises ValueError where a part has no rows.
    """
    dtype = np.float64 if kind == "regression" else np.int64
    train, test = np.asarray(train_labels, dtype), np.asarray(test_labels, dtype)
    if not len(train) or not len(test):
        raise ValueError(f"baselines need rows: found {len(train)} to train on and {len(test)} to score")
    plainest = "mean" if kind == "regression" else "majority"
    entries: dict[str, Callable[[], Prediction]] = {
        plainest: lambda: _ignore_texts(kind, train, len(test), len(names)),
        "tfidf-linear": lambda: fit(kind, train_texts, train, test_texts, len(names), seed),
    }
    return [_score_entry(name, predict, kind, test, resamples, seed) for name, predict in entries.items()]


def _ignore_texts(kind: Kind, train: NDArray[Any], rows: int, classes: int) -> Prediction:
    """The same answer for every row: the mean, or the shares of the classes in the training part."""
    if kind == "regression":
        return Prediction(np.full(rows, train.mean()))
    if kind == "multilabel":
        shares_C = train.mean(axis=0)
        return Prediction(np.tile(shares_C, (rows, 1)), np.full(classes, DEFAULT_THRESHOLD))
    return Prediction(np.tile(np.bincount(train, minlength=classes) / len(train), (rows, 1)))


def _score_entry(
    name: str, predict: Callable[[], Prediction], kind: Kind, test: NDArray[Any], resamples: int, seed: int
) -> Baseline:
    start = time.perf_counter()
    try:
        prediction = predict()
    except UntrainableError as error:
        return Baseline(name, {}, {}, time.perf_counter() - start, str(error))
    seconds = time.perf_counter() - start if prediction.seconds is None else prediction.seconds
    metrics, intervals = _score_prediction(kind, prediction, test, resamples, seed)
    outcomes = ScoredRows(kind, test, _say(kind, prediction))
    return Baseline(name, metrics, intervals, seconds, prediction.note, outcomes)


def _say(kind: Kind, prediction: Prediction) -> NDArray[Any]:
    """What is predicted, as labels are: class numbers (N,), marks (N, C) or numbers (N,)."""
    if kind == "regression":
        return prediction.values
    if kind == "multiclass":
        return prediction.values.argmax(axis=1)
    thresholds_C = prediction.thresholds
    assert thresholds_C is not None  # each fit of this kind gives them
    return predict_labels(prediction.values, thresholds_C)


def _score_prediction(
    kind: Kind, prediction: Prediction, test: NDArray[Any], resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, Interval]]:
    values, given = prediction.values, _say(kind, prediction)
    if kind == "regression":
        metrics = score_regression(values, test)
        intervals = bootstrap_regression(values, test, resamples, seed)
    elif kind == "multilabel":
        thresholds_C = prediction.thresholds
        assert thresholds_C is not None  # each fit of this kind gives them
        metrics = score_multilabel(values, test, thresholds_C)
        intervals = bootstrap_multilabel(given, test, resamples, seed)
    else:
        metrics = score_classification(values, test)
        intervals = bootstrap_classification(given, test, values.shape[1], resamples, seed)
    return metrics, {name: bounds for name, bounds in intervals.items() if name in metrics}
