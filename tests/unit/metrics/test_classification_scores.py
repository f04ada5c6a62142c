"""Scores for one label a row against scikit-learn, and calibration against a slow reference.

Shapes: N rows, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from afina.metrics.classification import (
    calibration_bins,
    confusion_counts,
    measure_calibration_error,
    per_class,
    score_classification,
)


def draw_rows(seed: int, rows: int, classes: int, certainty: float = 2.0) -> tuple[Any, Any]:
    """Probabilities (N, C) that lean to the right class, and labels."""
    generator = np.random.default_rng(seed)
    labels_N = generator.integers(0, classes, rows)
    logits_NC = generator.normal(size=(rows, classes))
    logits_NC[np.arange(rows), labels_N] += certainty * generator.random(rows)
    exponents_NC = np.exp(logits_NC)
    return exponents_NC / exponents_NC.sum(axis=1, keepdims=True), labels_N


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20), st.integers(2, 60), st.integers(2, 9))
def test_scores_equal_scikit_learn(seed: int, rows: int, classes: int) -> None:
    probabilities_NC, labels_N = draw_rows(seed, rows, classes)
    predictions_N = probabilities_NC.argmax(axis=1)
    scores = score_classification(probabilities_NC, labels_N)
    assert scores["accuracy"] == pytest.approx(reference.accuracy_score(labels_N, predictions_N))
    for average in ("macro", "weighted"):
        expected = reference.f1_score(labels_N, predictions_N, average=average, zero_division=0.0)
        assert scores[f"f1_{average}"] == pytest.approx(expected)
    assert scores["mcc"] == pytest.approx(reference.matthews_corrcoef(labels_N, predictions_N), abs=1e-12)
    assert scores["loss"] == pytest.approx(reference.log_loss(labels_N, probabilities_NC, labels=list(range(classes))))
    one_hot_NC = np.eye(classes)[labels_N]
    assert scores["brier"] == pytest.approx(((probabilities_NC - one_hot_NC) ** 2).sum(axis=1).mean())
    assert ("roc_auc" in scores) == (classes == 2 and 0 < labels_N.sum() < rows)


def test_two_classes_are_ranked_by_the_second() -> None:
    probabilities_NC, labels_N = draw_rows(5, 200, 2)
    scores = score_classification(probabilities_NC, labels_N)
    assert scores["roc_auc"] == pytest.approx(reference.roc_auc_score(labels_N, probabilities_NC[:, 1]))
    assert scores["average_precision"] == pytest.approx(
        reference.average_precision_score(labels_N, probabilities_NC[:, 1])
    )
    assert scores["roc_auc"] > 0.6


def test_matthews_correlation_is_exactly_zero_for_a_constant_answer() -> None:
    labels_N = np.array([0] * 7 + [1] * 3)
    assert score_classification(np.tile([0.7, 0.2, 0.1], (10, 1)), labels_N)["mcc"] == 0.0


def test_a_certain_and_wrong_answer_has_a_finite_loss() -> None:
    scores = score_classification(np.array([[1.0, 0.0]]), np.array([1]))
    assert scores["loss"] == pytest.approx(-np.log(1e-12))
    assert scores["brier"] == 2.0


def measure_slowly(probabilities_NC: Any, labels_N: Any) -> float:
    """The calibration error row by row, as the definition reads."""
    error = 0.0
    for index in range(15):
        inside = [
            row
            for row, each in enumerate(probabilities_NC)
            if index / 15 < max(each) <= (index + 1) / 15 or (index == 0 and max(each) == 0.0)
        ]
        if inside:
            accuracy = np.mean([probabilities_NC[row].argmax() == labels_N[row] for row in inside])
            confidence = np.mean([max(probabilities_NC[row]) for row in inside])
            error += len(inside) / len(labels_N) * abs(accuracy - confidence)
    return error


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 80), st.integers(2, 6), st.floats(0, 8))
def test_calibration_error_equals_the_slow_reference(seed: int, rows: int, classes: int, certainty: float) -> None:
    probabilities_NC, labels_N = draw_rows(seed, rows, classes, certainty)
    assert measure_calibration_error(probabilities_NC, labels_N) == pytest.approx(
        measure_slowly(probabilities_NC, labels_N)
    )


def test_a_confidence_on_an_edge_belongs_to_the_bin_below_it() -> None:
    table = calibration_bins(np.array([[0.6, 0.4], [1.0, 0.0]]), np.array([0, 1]))
    filled = [(round(row["high"], 6), row["count"], row["accuracy"]) for row in table if row["count"]]
    assert filled == [(0.6, 1, 1.0), (1.0, 1, 0.0)]
    assert len(table) == 15


def test_table_and_confusion_equal_scikit_learn() -> None:
    probabilities_NC, labels_N = draw_rows(3, 120, 5)
    predictions_N = probabilities_NC.argmax(axis=1)
    counts_CC = confusion_counts(predictions_N, labels_N, 6)
    np.testing.assert_array_equal(counts_CC, reference.confusion_matrix(labels_N, predictions_N, labels=list(range(6))))
    expected = reference.precision_recall_fscore_support(
        labels_N, predictions_N, labels=list(range(6)), zero_division=0.0
    )
    table = per_class(predictions_N, labels_N, 6)
    for place, key in enumerate(("precision", "recall", "f1", "support")):
        assert [row[key] for row in table] == pytest.approx(list(expected[place]))
    assert [row["label"] for row in table] == list(range(6))


@pytest.mark.parametrize("labels", [[], [0, 1, 0]])
def test_rows_that_do_not_fit_are_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="expected probabilities of shape"):
        score_classification(np.full((len(labels) and 2, 2), 0.5), np.array(labels))


def test_a_label_outside_the_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^labels must lie between 0 and 1$"):
        score_classification(np.full((1, 2), 0.5), np.array([2]))
