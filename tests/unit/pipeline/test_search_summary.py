"""What a search says of its outcome: ties and missing numbers are explained, and only where there are any."""

from __future__ import annotations

from typing import Any

import pytest

from afina.pipeline.search.summary import describe_outcome, describe_trial

BEST = {"best": {"trial": 0, "run": "runs/s", "how": "its own", "why": "so it is"}}


def describe(scores: dict[int, float | None], winner: int = 0) -> list[str]:
    """The sentences on a search whose trials have these scores, without those on the winner."""
    trials: list[dict[str, Any]] = [{"trial": number, "score": score} for number, score in scores.items()]
    search = {
        "plan": {"metric": "accuracy"}, "trials": trials, "verdict": None,
        "test": {"winner": {"test/accuracy": 0.5}}, "winner": {"trial": winner}, **BEST,
    }  # fmt: skip
    first, *between, last = describe_outcome(search)
    assert (first, last) == ("Test part, scored once: accuracy: winner 0.5000", "best run: trial 0, runs/s (its own)")
    return between


@pytest.mark.parametrize(
    ("scores", "sentences"),
    [
        ({0: 0.9, 1: 0.8, 2: None}, []),
        (
            {0: 0.8, 1: 0.9, 2: 0.9},
            ["Trials 1, 2 score the same: of equals the default wins, else the earliest."],
        ),
        (
            {0: 0.9, 1: 0.8, 4: 0.7, 5: None},
            ["2 numbers without a trial: proposals passed over, tried before or too long for the time left."],
        ),
        (
            {0: 0.9, 2: 0.8},
            ["1 number without a trial: proposals passed over, tried before or too long for the time left."],
        ),
    ],
)
def test_what_would_raise_a_question_is_explained(scores: dict[int, float | None], sentences: list[str]) -> None:
    assert describe(scores) == [*sentences, "The result is trial 0, the best by score: so it is."]


def test_a_winner_that_is_not_the_result_is_named() -> None:
    assert describe({0: 0.8, 1: 0.9}, winner=1) == ["The result is the default, trial 0, and not trial 1: so it is."]


def test_a_trial_that_chose_its_technique_says_so() -> None:
    settings = {"features.pooling": "mean"}
    assert describe_trial({"asked": "auto", "settings": {}}) == "default: chosen by auto"
    assert describe_trial({"asked": "auto", "settings": settings}) == "default: chosen by auto, pooling mean"
    assert describe_trial({"asked": "full", "settings": settings}) == "pooling mean"
    assert describe_trial({"asked": "full", "settings": {}}) == "default"
