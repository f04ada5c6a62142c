"""A lead is called larger than noise only where it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from afina.advice.search.verdict import Judgement, bound_scores, judge
from afina.metrics.intervals import bootstrap_classification
from afina.metrics.paired import ScoredRows


def make_trial(right_N: np.ndarray) -> ScoredRows:
    labels_N = np.arange(len(right_N)) % 2
    return ScoredRows("multiclass", labels_N, np.where(right_N, labels_N, 1 - labels_N), 1.0 - right_N)


def test_a_large_lead_is_clear() -> None:
    rows = np.arange(200)
    found = judge([make_trial(rows < 100), make_trial(rows < 150)], 0, 1, "accuracy", 0)
    assert found.lead == pytest.approx(0.25)
    assert found.is_clear
    assert found.corrected_lead == pytest.approx(0.25, abs=0.01)
    low, high = found.lead_interval
    assert str(found) == (
        "Larger than noise: the winner leads the default by 0.2500 accuracy on the 200 validation rows"
        f" (95 % interval {low:+.4f} to {high:+.4f}); {found.corrected_lead:+.4f} is left where the rows that choose"
        " are not those that judge."
    )
    assert found.as_dict()["words"] == str(found)


def test_the_best_of_many_equals_leads_by_luck_and_it_is_said() -> None:
    """Twenty trials that are right on a random half of the rows: the luckiest one isn't better than the default."""
    random = np.random.default_rng(4)
    trials = [make_trial(random.random(80) < 0.5) for _ in range(20)]
    scores = [float((each.labels == each.predictions).mean()) for each in trials]
    default, winner = int(np.argsort(scores)[10]), int(np.argmax(scores))
    found = judge(trials, default, winner, "accuracy", 0)
    assert found.lead > 0.08
    assert found.corrected_lead < 0.6 * found.lead, "most of the lead came from choosing"
    assert not found.is_clear
    assert str(found).startswith("Within noise: the winner leads the default by")
    assert str(found).endswith("The default may be as good.")


def test_where_smaller_is_better_a_lead_is_above_zero() -> None:
    rows = np.arange(100)
    found = judge([make_trial(rows < 40), make_trial(rows < 90)], 0, 1, "loss", 0)
    assert found.lead == pytest.approx(0.5)
    assert found.lead_interval[0] > 0
    assert found.corrected_lead > 0


def test_the_default_against_itself() -> None:
    trials = [make_trial(np.arange(50) < 30), make_trial(np.arange(50) < 20)]
    found = judge(trials, 0, 0, "accuracy", 0)
    assert (found.lead, found.is_default, found.is_clear) == (0.0, True, False)
    assert str(found) == "No trial was better than the default configuration on the validation rows."


def test_intervals_of_all_trials_are_the_usual_ones() -> None:
    trials = [make_trial(np.arange(300) < right) for right in (150, 240)]
    bounds = bound_scores(trials, "accuracy", 0)
    for each, trial in zip(bounds, trials, strict=True):
        usual = bootstrap_classification(trial.predictions, trial.labels, 2, 1000, 0)["accuracy"]
        assert each == pytest.approx(usual, abs=0.01)


def test_the_standard_error_is_that_of_the_lead() -> None:
    rows = np.arange(400)
    found = judge([make_trial(rows < 200), make_trial((rows >= 40) & (rows < 260))], 0, 1, "accuracy", 0)
    # 60 rows that only the winner has right and 40 that only the default has: the root of 100 less 20 squared over 400.
    assert found.lead == pytest.approx(0.05)
    assert found.standard_error == pytest.approx(99**0.5 / 400, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "is_promoted", "why"),
    [
        ({}, True, "a lead of 0.0300 accuracy is more than one standard error of it, 0.0200, and some of it is left"
         " where the rows that choose are not those that judge"),
        ({"lead": 0.02}, False, "a lead of 0.0200 accuracy is within one standard error of it, 0.0200"),
        ({"corrected_lead": 0.0}, False, "of a lead of 0.0300 accuracy nothing is left where the rows that choose are"
         " not those that judge"),
        ({"rows": 9}, False, "9 validation rows are too few to give it up for another one"),
        ({"is_default": True, "lead": 0.0}, False, "no trial was better on the validation rows"),
    ],
)  # fmt: skip
def test_the_default_gives_way_only_to_a_lead_above_its_error(
    changes: dict[str, Any], is_promoted: bool, why: str
) -> None:
    usual: dict[str, Any] = {
        "metric": "accuracy", "rows": 100, "lead": 0.03, "lead_interval": (-0.01, 0.07), "corrected_lead": 0.01,
        "corrected_interval": (-0.02, 0.04), "is_default": False, "standard_error": 0.02,
    }  # fmt: skip
    found = Judgement(**{**usual, **changes})
    assert found.is_promoted is is_promoted
    assert found.explain_promotion() == why
    assert {"is_promoted": is_promoted, "why_promoted": why}.items() <= found.as_dict().items()


@pytest.mark.parametrize(("rows", "is_clear"), [(9, False), (10, True)])
def test_a_lead_on_a_few_rows_is_not_judged(rows: int, is_clear: bool) -> None:
    found = Judgement("accuracy", rows, 0.5, (0.5, 0.5), 0.5, (0.5, 0.5), is_default=False)
    assert found.is_clear is is_clear
    assert str(found).startswith("Larger than noise: " if is_clear else "Too few rows to judge by: ")
