"""Scores on resampled rows are the scores of the metrics modules, and differences are judged row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, chi2

from afina.metrics.classification import score_classification
from afina.metrics.multilabel import score_multilabel
from afina.metrics.paired import ScoredRows, bootstrap_differences, bound_gains, compare_hits, score_all
from afina.metrics.regression import score_regression
from afina.metrics.row_losses import cell_losses, class_losses

RANDOM = np.random.default_rng(1)


def test_scores_of_classes_are_the_usual_ones() -> None:
    probabilities_NC = RANDOM.dirichlet(np.ones(4), size=50)
    labels_N = RANDOM.integers(0, 4, 50)
    rows = ScoredRows("multiclass", labels_N, probabilities_NC.argmax(axis=1), class_losses(probabilities_NC, labels_N))
    expected = score_classification(probabilities_NC, labels_N)
    found = score_all(rows)
    assert set(found) == {"accuracy", "f1_macro", "f1_weighted", "mcc", "loss"}
    assert found == pytest.approx({name: expected[name] for name in found})


def test_scores_of_marks_are_the_usual_ones() -> None:
    probabilities_NC = RANDOM.random((40, 3))
    labels_NC = RANDOM.integers(0, 2, (40, 3))
    marks_NC = (probabilities_NC >= 0.5).astype(np.int64)
    rows = ScoredRows("multilabel", labels_NC, marks_NC, cell_losses(probabilities_NC, labels_NC))
    expected = score_multilabel(probabilities_NC, labels_NC, np.full(3, 0.5))
    assert score_all(rows) == pytest.approx(expected)


def test_scores_of_numbers_are_the_usual_ones() -> None:
    targets_N = RANDOM.normal(size=30)
    predictions_N = targets_N + RANDOM.normal(size=30)
    assert score_all(ScoredRows("regression", targets_N, predictions_N)) == pytest.approx(
        score_regression(predictions_N, targets_N)
    )


def test_scores_of_tokens() -> None:
    rows = ScoredRows(
        "generation", losses_N=np.asarray([2.0, 6.0]), tokens_N=np.asarray([1, 3]), correct_N=np.asarray([1, 0])
    )
    assert score_all(rows) == pytest.approx(
        {"loss": 2.0, "perplexity": math.exp(2.0), "token_accuracy": 0.25, "loss_per_row": 4.0}
    )


def make_pair(rows: int, right_first: int, right_second: int) -> tuple[ScoredRows, ScoredRows]:
    """Two classifiers; each gets the first so many rows right."""
    labels_N = np.arange(rows) % 2
    pair = [np.where(np.arange(rows) < right, labels_N, 1 - labels_N) for right in (right_first, right_second)]
    one, two = (ScoredRows("multiclass", labels_N, given_N, np.zeros(rows)) for given_N in pair)
    return one, two


def test_what_is_common_to_both_drops_out() -> None:
    """Models that agree on all rows but four differ by these four, however unsure each score is by itself."""
    one, two = make_pair(200, 100, 104)
    difference, (low, high) = bootstrap_differences(one, two, 1000, 0)["accuracy"]
    assert difference == pytest.approx(0.02)
    assert 0.0 <= low < difference < high < 0.05
    again = bootstrap_differences(one, two, 1000, 0)["accuracy"]
    assert again == (difference, (low, high))


def test_a_model_against_itself_differs_by_nothing() -> None:
    one, _ = make_pair(60, 30, 30)
    assert bootstrap_differences(one, one, 200, 0)["accuracy"] == (0.0, (0.0, 0.0))


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (1, 0), (3, 12), (20, 20), (400, 470)])
def test_few_discordant_rows_are_tested_exactly(only_first: int, only_second: int) -> None:
    first_N = np.repeat([True, False, True], [only_first, only_second, 10])
    second_N = np.repeat([False, True, True], [only_first, only_second, 10])
    found = compare_hits(first_N, second_N)
    rows = only_first + only_second
    p = binomtest(only_first, rows).pvalue if rows else 1.0
    assert found == {
        "only_first": only_first, "only_second": only_second, "p": pytest.approx(p), "method": "exact binomial"
    }  # fmt: skip


def test_many_discordant_rows_are_tested_by_chi_squared() -> None:
    first_N, second_N = np.repeat([True, False], [900, 1000]), np.repeat([False, True], [900, 1000])
    found = compare_hits(first_N, second_N)
    assert found["method"] == "chi-squared with continuity correction"
    assert found["p"] == pytest.approx(chi2.sf(99**2 / 1900, 1))
    assert found["p"] == pytest.approx(binomtest(900, 1900).pvalue, abs=1e-3)


def test_the_gain_in_accuracy_is_bounded_as_by_drawing_rows() -> None:
    one, two = make_pair(200, 120, 150)
    low, high = bound_gains(two, [one], "accuracy", 4000, 0)[0] or (0.0, 0.0)
    _, expected = bootstrap_differences(one, two, 4000, 1)["accuracy"]
    assert (low, high) == pytest.approx(expected, abs=0.011)


def test_a_gain_is_clear_where_the_intervals_of_the_scores_overlap() -> None:
    """80 rows, 56 and 44 of them right, those of the worse one among those of the better one."""
    worse, better = make_pair(80, 44, 56)
    low, high = bound_gains(better, [worse], "accuracy", 2000, 0)[0] or (0.0, 0.0)
    assert 0 < low < 0.15 < high


@pytest.mark.parametrize("metric", ["rmse", "r2"])
def test_a_gain_is_positive_whichever_way_the_metric_runs(metric: str) -> None:
    targets_N = RANDOM.normal(size=60)
    near, far = (ScoredRows("regression", targets_N, targets_N + RANDOM.normal(size=60) * by) for by in (0.1, 2.0))
    low, high = bound_gains(near, [far], metric, 200, 0)[0] or (0.0, 0.0)
    assert 0 < low < high


@pytest.mark.parametrize(("rows", "resamples"), [(9, 100), (100, 0)])
def test_no_gain_is_bounded_by_too_few_rows_or_without_resamples(rows: int, resamples: int) -> None:
    one, two = make_pair(rows, rows // 2, rows)
    assert bound_gains(two, [one, one], "accuracy", resamples, 0) == [None, None]


def test_a_gain_that_is_never_defined_has_no_interval() -> None:
    targets_N = RANDOM.normal(size=30)
    constant, other = ScoredRows("regression", targets_N, np.zeros(30)), ScoredRows("regression", targets_N, targets_N)
    assert bound_gains(other, [constant], "pearson", 50, 0) == [None]


def test_one_score_of_numbers_is_that_of_all() -> None:
    targets_N = RANDOM.normal(size=40)
    rows = ScoredRows("regression", targets_N, targets_N + RANDOM.normal(size=40))
    weights_RN = RANDOM.integers(0, 3, (7, 40)).astype(np.float64)
    assert rows.score_by("rmse", weights_RN) == pytest.approx(rows.score(weights_RN)["rmse"])
    assert rows.score_by("r2", weights_RN) == pytest.approx(rows.score(weights_RN)["r2"])
