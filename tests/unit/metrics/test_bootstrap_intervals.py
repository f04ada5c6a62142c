"""Intervals: each resample scores as scikit-learn scores the same rows, and the bounds are its percentiles.

Shapes: N rows, C classes or labels, R resamples.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from afina.metrics import intervals
from afina.metrics.classification import confusion_counts
from afina.metrics.counts import score_counts
from afina.metrics.intervals import (
    bootstrap_classification,
    bootstrap_multilabel,
    bootstrap_regression,
    draw_confusions,
    draw_weights,
)
from afina.metrics.multilabel import score_predictions
from afina.metrics.regression import score_resamples


def test_resampled_counts_score_as_scikit_learn_does() -> None:
    generator = np.random.default_rng(0)
    for classes in (2, 3, 7):
        counts_CC = generator.multinomial(40, np.full(classes**2, 1 / classes**2)).reshape(classes, classes)
        true_N, predicted_N = (
            np.repeat(side, counts_CC.ravel()) for side in np.indices(counts_CC.shape).reshape(2, -1)
        )
        np.testing.assert_array_equal(confusion_counts(predicted_N, true_N, classes), counts_CC)
        scores = score_counts(np.diagonal(counts_CC), counts_CC.sum(axis=1), counts_CC.sum(axis=0))
        assert scores["f1_macro"] == pytest.approx(
            reference.f1_score(true_N, predicted_N, average="macro", zero_division=0.0)
        )
        assert scores["f1_weighted"] == pytest.approx(
            reference.f1_score(true_N, predicted_N, average="weighted", zero_division=0.0)
        )
        assert scores["mcc"] == pytest.approx(reference.matthews_corrcoef(true_N, predicted_N))


def test_drawn_confusions_keep_the_rows_and_leave_empty_cells_empty() -> None:
    counts_CC = np.array([[50, 0, 3], [0, 20, 0], [7, 0, 0]])
    ((hits_RC, true_RC, predicted_RC),) = draw_confusions(counts_CC, 400, 1)
    assert (true_RC.sum(axis=1) == 80).all()
    assert (predicted_RC.sum(axis=1) == 80).all()
    np.testing.assert_array_equal(hits_RC[:, 1], true_RC[:, 1])
    np.testing.assert_array_equal(hits_RC[:, 2], 0)
    np.testing.assert_allclose(true_RC.mean(axis=0), counts_CC.sum(axis=1), rtol=0.1)
    np.testing.assert_allclose(predicted_RC.mean(axis=0), counts_CC.sum(axis=0), rtol=0.1)


def test_many_labels_are_scored_as_scikit_learn_scores_the_same_resample() -> None:
    generator = np.random.default_rng(2)
    labels_NC = (generator.random((30, 4)) < 0.3).astype(int)
    predictions_NC = np.where(generator.random((30, 4)) < 0.8, labels_NC, 1 - labels_NC)
    (weights_RN,) = draw_weights(30, 20, 3)
    assert (weights_RN.sum(axis=1) == 30).all()
    scores = score_predictions(predictions_NC, labels_NC, weights_RN)
    for resample, weights_N in enumerate(weights_RN.astype(int)):
        true, predicted = np.repeat(labels_NC, weights_N, axis=0), np.repeat(predictions_NC, weights_N, axis=0)
        for average in ("micro", "macro"):
            expected = reference.f1_score(true, predicted, average=average, zero_division=0.0)
            assert scores[f"f1_{average}"][resample] == pytest.approx(expected)
        assert scores["subset_accuracy"][resample] == pytest.approx(reference.accuracy_score(true, predicted))


def test_a_resample_without_a_rare_label_says_nothing_of_it() -> None:
    labels_NC = np.array([[i % 2, (i + 1) % 2, 0] for i in range(40)])
    labels_NC[0, 2] = 1  # one row of forty: every third resample lacks it
    assert bootstrap_multilabel(labels_NC, labels_NC, 200, 0)["f1_macro"] == (1.0, 1.0)
    nowhere_NC = np.zeros_like(labels_NC[:, :1])  # as in scikit-learn, a label that nobody has and none is given
    labels_NC = np.concatenate([labels_NC[:, :2], nowhere_NC], axis=1)
    assert bootstrap_multilabel(labels_NC, labels_NC, 200, 0)["f1_macro"] == pytest.approx((2 / 3, 2 / 3))


@pytest.mark.parametrize("steps", [2, 1000], ids=["many equal values", "few equal values"])
def test_numbers_are_scored_as_scipy_scores_the_same_resample(steps: int) -> None:
    generator = np.random.default_rng(4)
    targets_N = np.round(generator.normal(size=25) * steps) / steps
    predictions_N = np.round((targets_N + generator.normal(size=25)) * steps) / steps
    (weights_RN,) = draw_weights(25, 20, 5)
    scores = score_resamples(predictions_N, targets_N, weights_RN)
    for resample, weights_N in enumerate(weights_RN.astype(int)):
        true, predicted = np.repeat(targets_N, weights_N), np.repeat(predictions_N, weights_N)
        assert scores["rmse"][resample] == pytest.approx(reference.root_mean_squared_error(true, predicted))
        assert scores["mae"][resample] == pytest.approx(reference.mean_absolute_error(true, predicted))
        assert scores["r2"][resample] == pytest.approx(reference.r2_score(true, predicted))
        assert scores["pearson"][resample] == pytest.approx(stats.pearsonr(true, predicted)[0])
        assert scores["spearman"][resample] == pytest.approx(stats.spearmanr(true, predicted)[0])


def test_bounds_are_the_percentiles_of_a_plain_bootstrap() -> None:
    right_N = np.arange(300) < 210
    bounds = bootstrap_classification(right_N.astype(int), np.ones(300, int), 2, 4000, 6)["accuracy"]
    expected = np.percentile(np.random.default_rng(7).binomial(300, 0.7, 4000) / 300, [2.5, 97.5])
    assert bounds == pytest.approx(tuple(expected), abs=0.006)


def test_the_seed_decides_and_another_seed_differs() -> None:
    generator = np.random.default_rng(8)
    targets_N = generator.normal(size=50)
    predictions_N = targets_N + generator.normal(size=50)
    first = bootstrap_regression(predictions_N, targets_N, 200, 1)
    assert first == bootstrap_regression(predictions_N, targets_N, 200, 1)
    assert first != bootstrap_regression(predictions_N, targets_N, 200, 2)


def test_no_resamples_give_no_intervals() -> None:
    assert bootstrap_classification(np.zeros(3, int), np.zeros(3, int), 2, 0, 1) == {}
    assert bootstrap_multilabel(np.zeros((3, 2), int), np.zeros((3, 2), int), 0, 1) == {}
    assert bootstrap_regression(np.zeros(3), np.zeros(3), 0, 1) == {}


def test_a_score_that_is_never_defined_has_no_interval() -> None:
    bounds = bootstrap_regression(np.full(20, 1.0), np.arange(20.0), 50, 1)
    assert sorted(bounds) == ["mae", "r2", "rmse"]


def test_seven_thousand_rows_of_forty_classes_take_about_a_second() -> None:
    generator = np.random.default_rng(9)
    labels_N = generator.integers(0, 40, 7449)
    predictions_N = np.where(generator.random(7449) < 0.8, labels_N, generator.integers(0, 40, 7449))
    start = time.process_time()
    bootstrap_classification(predictions_N, labels_N, 40, 1000, 1)
    assert time.process_time() - start < 2.0


def test_the_interval_of_a_mean_over_tokens_is_that_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    tokens_N = random.integers(1, 30, 400)
    losses_N = tokens_N * random.normal(2.0, 0.3, 400)
    low, high = intervals.bootstrap_ratio(losses_N, tokens_N, 2000, 0)
    mean = losses_N.sum() / tokens_N.sum()
    error = np.sqrt(np.square(losses_N - mean * tokens_N).sum()) / tokens_N.sum()
    assert (low, high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.3 * error)
    monkeypatch.setattr(intervals, "CHUNK_ELEMENTS", 1000)  # few resamples at once, of the same rows
    assert intervals.bootstrap_ratio(losses_N, tokens_N, 2000, 0) == pytest.approx((low, high), rel=1e-9)
