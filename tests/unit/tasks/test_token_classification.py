"""What is said of words is what their logits say, and rows stay apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from afina.data.labels import LabelSpace
from afina.data.tags import TagArrays
from afina.tasks.base import TaskState
from afina.tasks.token_classification import TokenClassification

NAMES = ("B-x", "B-y", "I-x", "O")
TAGS: Any = TagArrays(np.asarray([0, 2, 3, 3, 1], np.int32), np.asarray([0, 3, 5]))


def make_logits(*tags: int) -> Any:
    """Logits that give these tags, each with three quarters of the probability."""
    logits = np.full((len(tags), len(NAMES)), np.log(1 / 12), np.float32)
    logits[np.arange(len(tags)), list(tags)] = np.log(3 / 4)
    return logits


@pytest.fixture
def task() -> TokenClassification:
    return TokenClassification(LabelSpace("entities", NAMES))


def test_a_row_has_tags_probabilities_and_entities(task: TokenClassification) -> None:
    first, second = task.predict_rows(make_logits(0, 2, 3, 1, 1), TAGS.offsets)
    assert first["prediction"] == ["B-x", "I-x", "O"]
    assert first["probabilities"] == [0.75, 0.75, 0.75]
    assert first["entities"] == [{"type": "x", "first_word": 0, "last_word": 1, "probability": 0.5625}]
    assert [(each["first_word"], each["last_word"]) for each in second["entities"]] == [(0, 0), (1, 1)]


def test_scores_and_losses_are_those_of_words(task: TokenClassification) -> None:
    logits = make_logits(0, 2, 3, 3, 3)
    scores = task.score(logits, TAGS, TaskState())
    assert scores["f1"] == pytest.approx(2 / 3)
    assert scores["loss"] == pytest.approx(-(4 * np.log(3 / 4) + np.log(1 / 12)) / 5, rel=1e-5)
    assert task.row_losses(logits, TAGS).sum() == pytest.approx(5 * scores["loss"])


def test_tags_are_weighed_by_their_words(task: TokenClassification) -> None:
    weights = task.learn_from(TAGS, "balanced", True).class_weights
    assert weights == (1.25, 1.25, 1.25, 0.625)
    assert task.learn_from(TAGS, "none", True) == TaskState()


def test_the_rows_with_most_wrong_words_come_first(task: TokenClassification) -> None:
    (worst, other) = task.errors(make_logits(3, 3, 3, 3, 0), TAGS, TaskState(), 5)
    assert (worst["index"], worst["label"], worst["predicted"]) == (0, "1 B-x, 2 I-x", "-")
    assert (other["index"], other["label"], other["predicted"]) == (1, "2 B-y", "2 B-x")
    assert task.errors(make_logits(0, 2, 3, 3, 1), TAGS, TaskState(), 5) == []


def test_plain_tags_have_no_entities() -> None:
    task = TokenClassification(LabelSpace("tags", ("ADJ", "NOUN", "VERB", "X")))
    (row,) = task.predict(make_logits(0, 1), TaskState())
    assert row == {"prediction": ["ADJ", "NOUN"], "probabilities": [0.75, 0.75]}
    assert task.primary_metric == "accuracy"
