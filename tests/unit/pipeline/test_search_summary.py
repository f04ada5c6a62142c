"""What a search says of its outcome: ties and missing numbers are explained, and only where there are any."""

from __future__ import annotations

from typing import Any

import pytest

from afina.pipeline.search.summary import describe_outcome


def describe(scores: dict[int, float | None]) -> list[str]:
    """The sentences on a search whose trials have these scores, without those on the winner."""
    trials: list[dict[str, Any]] = [{"trial": number, "score": score} for number, score in scores.items()]
    search = {
        "plan": {"metric": "accuracy"}, "trials": trials, "verdict": None,
        "test": {"winner": {"test/accuracy": 0.5}}, "best": {"trial": 0, "run": "runs/s", "how": "promoted"},
    }  # fmt: skip
    first, *between, last = describe_outcome(search)
    assert (first, last) == ("Test part, scored once: accuracy: winner 0.5000", "best run: trial 0, runs/s (promoted)")
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
    assert describe(scores) == sentences
