"""Which trials go on after 1, 2, 4, 8 epochs."""

from __future__ import annotations

import math

import pytest

from afina.advice.search.halving import is_in_worse_half, is_rung


def test_trials_are_compared_at_powers_of_two() -> None:
    assert [epoch for epoch in range(18) if is_rung(epoch)] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("score", "others", "is_worse"),
    [
        (0.1, [], False),
        (0.1, [0.2], True),
        (0.2, [0.1], False),
        (0.5, [0.9, 0.4], True),
        (0.5, [0.9, 0.4, 0.3], False),
        (0.5, [0.5, 0.5, 0.5], False),
        (math.nan, [], True),
        (0.5, [math.nan, math.nan], False),
    ],
)
def test_the_better_half_goes_on(score: float, others: list[float], is_worse: bool) -> None:
    assert is_in_worse_half(score, others, is_larger_better=True) is is_worse
    assert is_in_worse_half(-score, [-each for each in others], is_larger_better=False) is is_worse


def test_the_rule_is_that_of_optunas_pruner() -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    )
    scores = [0.5, 0.4, 0.6, 0.55, 0.5, 0.61, 0.2, 0.6]
    for number, score in enumerate(scores):
        trial = study.ask()
        trial.report(score, 1)
        assert trial.should_prune() is is_in_worse_half(score, scores[:number], is_larger_better=True)
