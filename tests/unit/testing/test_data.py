"""The small sets are deterministic, balanced, free of duplicates and can be learned."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from afina.testing.data import Kind, make_rows


@pytest.mark.parametrize("kind", get_args(Kind))
def test_rows_are_a_function_of_the_arguments(kind: Kind) -> None:
    rows = make_rows(kind, 200)
    assert rows == make_rows(kind, 200)
    assert rows[:50] == make_rows(kind, 50)
    assert rows != make_rows(kind, 200, seed=1)
    assert len({str(row) for row in rows}) == 200
    assert all(("text_pair" in row) == (kind == "pairs") for row in rows)


@pytest.mark.parametrize(("kind", "classes"), [("multiclass", 3), ("binary", 2), ("pairs", 2)])
def test_classes_are_balanced_and_learnable(kind: Kind, classes: int) -> None:
    rows = make_rows(kind, 120)
    labels = [row["label"] for row in rows]
    assert set(Counter(labels).values()) == {120 // classes}
    texts = [row.get("text_pair", row["text"]) for row in rows]
    scorer = make_pipeline(CountVectorizer(analyzer="char"), LogisticRegression(max_iter=1000))
    assert scorer.fit(texts[:80], labels[:80]).score(texts[80:], labels[80:]) > 0.9


def test_first_text_of_a_pair_tells_nothing() -> None:
    rows = make_rows("pairs", 400)
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    scorer = make_pipeline(CountVectorizer(analyzer="char"), LogisticRegression(max_iter=1000))
    assert scorer.fit(texts[:200], labels[:200]).score(texts[200:], labels[200:]) < 0.6


def test_multilabel_has_every_number_of_labels_and_regression_the_whole_range() -> None:
    assert {len(row["label"]) for row in make_rows("multilabel", 16)} == {0, 1, 2, 3}
    assert {row["label"] for row in make_rows("regression", 14)} == {-1, -0.667, -0.333, 0, 0.333, 0.667, 1}
