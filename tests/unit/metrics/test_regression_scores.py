"""Scores for one number a row against scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from afina.metrics.regression import score_regression


@settings(max_examples=60, deadline=None)
@example(seed=2587, rows=3, steps=3, offset=0.0)
@given(st.integers(0, 2**20), st.integers(3, 60), st.sampled_from([1, 3, 1000]), st.sampled_from([0.0, 1e6]))
def test_scores_equal_scikit_learn_and_scipy(seed: int, rows: int, steps: int, offset: float) -> None:
    generator = np.random.default_rng(seed)
    # Whole numbers until the end: two sums that are equal but for rounding would be a nearly constant prediction.
    whole_N = np.round(generator.normal(size=rows) * steps)
    targets_N = whole_N / steps + offset
    predictions_N = (whole_N + np.round(generator.normal(size=rows) * steps)) / steps + offset
    scores = score_regression(predictions_N, targets_N)
    assert scores["rmse"] == pytest.approx(reference.root_mean_squared_error(targets_N, predictions_N))
    assert scores["mae"] == pytest.approx(reference.mean_absolute_error(targets_N, predictions_N))
    varied = np.ptp(targets_N) > 0
    assert ("r2" in scores) == varied
    assert ("pearson" in scores) == ("spearman" in scores) == (varied and np.ptp(predictions_N) > 0)
    if "r2" in scores:
        assert scores["r2"] == pytest.approx(reference.r2_score(targets_N, predictions_N), rel=1e-6)
    if "pearson" in scores:
        assert scores["pearson"] == pytest.approx(stats.pearsonr(predictions_N, targets_N)[0], abs=1e-6)
        assert scores["spearman"] == pytest.approx(stats.spearmanr(predictions_N, targets_N)[0], abs=1e-9)


def test_a_constant_prediction_has_no_correlation() -> None:
    assert sorted(score_regression(np.full(4, 2.0), np.array([1.0, 2, 3, 4]))) == ["mae", "r2", "rmse"]


def test_constant_targets_have_neither_r2_nor_correlation() -> None:
    assert sorted(score_regression(np.array([1.0, 2, 3]), np.full(3, 2.0))) == ["mae", "rmse"]


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="expected N predictions and N targets"):
        score_regression(np.zeros(3), np.zeros(2))
