"""The commonest tag, and each word's own."""

from __future__ import annotations

import numpy as np
import pytest

from afina.evaluation.tag_baselines import TaggedText, score_tag_baselines
from afina.metrics.tags import Tagging


def test_words_get_the_tag_that_they_have_most_often() -> None:
    names = ("B-x", "I-x", "O")
    train = TaggedText(["a", "b", "c", "a", "a", "d"], np.asarray([0, 2, 2, 0, 2, 2]), np.asarray([0, 6]))
    test = TaggedText(["a", "b", "new", "a"], np.asarray([0, 2, 0, 2]), np.asarray([0, 2, 4]))
    majority, dictionary = score_tag_baselines(Tagging(names), [train], test, 0, 0)
    assert (majority.name, majority.metrics["accuracy"], majority.metrics["f1"]) == ("majority", 0.5, 0.0)
    # `new` gets O; of the two entities one is found, and one of the two that are given is wrong.
    assert dictionary.metrics == pytest.approx({"f1": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": 0.5})


def test_unknown_words_get_the_commonest_tag_where_none_is_o() -> None:
    train = TaggedText(["a", "b", "c"], np.asarray([1, 1, 0]), np.asarray([0, 3]))
    test = TaggedText(["new"], np.asarray([1]), np.asarray([0, 1]))
    (_, dictionary) = score_tag_baselines(Tagging(("ADJ", "NOUN")), [train], test, 0, 0)
    assert dictionary.metrics["accuracy"] == 1.0
