"""Scores for several labels a row against scikit-learn, thresholds against every possible one.

Shapes: N rows, C labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from afina.metrics.multilabel import per_label, predict_labels, score_multilabel, tune_thresholds


def draw_rows(seed: int, rows: int, labels: int, steps: int = 1000) -> tuple[Any, Any]:
    """Probabilities (N, C) on a grid of so many steps, so that some are equal, and labels (N, C)."""
    generator = np.random.default_rng(seed)
    labels_NC = (generator.random((rows, labels)) < 0.3).astype(int)
    probabilities_NC = np.clip(labels_NC * 0.3 + generator.random((rows, labels)) * 0.7, 0, 1)
    return np.round(probabilities_NC * steps) / steps, labels_NC


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 50), st.integers(1, 6))
def test_scores_equal_scikit_learn(seed: int, rows: int, labels: int) -> None:
    probabilities_NC, labels_NC = draw_rows(seed, rows, labels)
    thresholds_C = np.linspace(0.3, 0.7, labels)
    predictions_NC = predict_labels(probabilities_NC, thresholds_C)
    scores = score_multilabel(probabilities_NC, labels_NC, thresholds_C)
    true = labels_NC if labels > 1 else labels_NC[:, 0]
    predicted = predictions_NC if labels > 1 else predictions_NC[:, 0]
    assert scores["subset_accuracy"] == pytest.approx(reference.accuracy_score(true, predicted))
    assert scores["hamming_loss"] == pytest.approx(reference.hamming_loss(true, predicted))
    if labels > 1:
        for average in ("micro", "macro"):
            expected = reference.f1_score(true, predicted, average=average, zero_division=0.0)
            assert scores[f"f1_{average}"] == pytest.approx(expected)


def test_loss_is_the_binary_cross_entropy_of_a_cell() -> None:
    scores = score_multilabel(np.array([[0.8, 0.4]]), np.array([[1, 0]]), np.array([0.5, 0.5]))
    assert scores["loss"] == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 25), st.sampled_from([3, 10, 1000]))
def test_no_threshold_is_better_than_the_tuned_one(seed: int, rows: int, steps: int) -> None:
    probabilities_NC, labels_NC = draw_rows(seed, rows, 3, steps)
    thresholds_C = tune_thresholds(probabilities_NC, labels_NC)
    for label, threshold in enumerate(thresholds_C):
        true_N, probability_N = labels_NC[:, label], probabilities_NC[:, label]
        if not true_N.any():
            assert threshold == 0.5
            continue
        every = [
            reference.f1_score(true_N, (probability_N >= each).astype(int), zero_division=0.0)
            for each in np.unique(probability_N)
        ]
        tuned = reference.f1_score(true_N, (probability_N >= threshold).astype(int), zero_division=0.0)
        assert tuned == pytest.approx(max(every))


def test_the_threshold_lies_halfway_between_the_neighbours() -> None:
    probabilities_NC = np.array([[0.9], [0.7], [0.2], [0.1]])
    assert tune_thresholds(probabilities_NC, np.array([[1], [1], [0], [0]]))[0] == pytest.approx(0.45)


@pytest.mark.parametrize(("second", "expected"), [(0.6, 0.75), (0.88, 0.15)])
def test_among_equals_the_threshold_nearest_to_a_half_wins(second: float, expected: float) -> None:
    # Only the first row, or all four: F1 is two thirds either way, and less in between.
    probabilities_NC, labels_NC = np.array([[0.9], [second], [0.4], [0.3]]), np.array([[1], [0], [0], [1]])
    assert tune_thresholds(probabilities_NC, labels_NC)[0] == pytest.approx(expected)


@pytest.mark.parametrize("steps", range(4))
def test_neighbouring_floats_are_still_separated(steps: int) -> None:
    upper = 0.75
    for _ in range(steps):
        upper = float(np.nextafter(upper, 0.0))
    lower = float(np.nextafter(upper, 0.0))
    thresholds_C = tune_thresholds(np.array([[upper], [lower]]), np.array([[1], [0]]))
    assert predict_labels(np.array([[upper], [lower]]), thresholds_C).tolist() == [[1], [0]]


def test_table_has_one_entry_a_label_with_its_threshold() -> None:
    probabilities_NC, labels_NC = draw_rows(7, 60, 3)
    thresholds_C = np.array([0.4, 0.5, 0.6])
    expected = reference.precision_recall_fscore_support(
        labels_NC, predict_labels(probabilities_NC, thresholds_C), zero_division=0.0
    )
    table = per_label(probabilities_NC, labels_NC, thresholds_C)
    for place, key in enumerate(("precision", "recall", "f1", "support")):
        assert [row[key] for row in table] == pytest.approx(list(expected[place]))
    assert [row["threshold"] for row in table] == [0.4, 0.5, 0.6]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="of the same shape"):
        score_multilabel(np.zeros((2, 3)), np.zeros((2, 2)), np.zeros(3))
