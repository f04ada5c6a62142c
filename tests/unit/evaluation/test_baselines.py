"""The plain baselines on small real sentences: they learn, they are repeatable, and they say what was capped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from afina.evaluation import linear
from afina.evaluation.baselines import score_baselines

GOOD = (
    "a warm and clever film",
    "clever, warm and funny",
    "the cast is a joy",
    "funny from start to end",
    "a joy to watch",
)
BAD = (
    "a dull and empty film",
    "empty, dull and slow",
    "the plot is a mess",
    "slow from start to end",
    "a mess to watch",
)
TEXTS = [*GOOD, *BAD] * 12
LABELS = [*[1] * 5, *[0] * 5] * 12


def score(kind: Any, labels: Any, **changed: Any) -> dict[str, Any]:
    """The baselines by name, trained and scored on the sentences above."""
    given: dict[str, Any] = {
        "train_texts": TEXTS, "train_labels": labels, "test_texts": TEXTS[:20], "test_labels": labels[:20],
        "names": ["bad", "good"], "resamples": 50, "seed": 1,
    }  # fmt: skip
    return {baseline.name: baseline for baseline in score_baselines(kind, **(given | changed))}


def test_classes_are_learned_from_the_words() -> None:
    found = score("multiclass", LABELS)
    assert list(found) == ["majority", "tfidf-linear"]
    assert found["majority"].metrics["accuracy"] == 0.5
    assert found["tfidf-linear"].metrics["accuracy"] == 1.0
    assert found["tfidf-linear"].intervals["accuracy"] == (1.0, 1.0)
    assert found["tfidf-linear"].note == ""


def test_several_labels_are_learned_from_the_words() -> None:
    labels_NC = np.array([[label, 1 - label] for label in LABELS])
    found = score("multilabel", labels_NC)
    assert found["tfidf-linear"].metrics["subset_accuracy"] == 1.0
    assert found["majority"].metrics["hamming_loss"] == 0.5


def test_a_label_that_no_row_or_every_row_has_keeps_its_share() -> None:
    labels_NC = np.array([[label, 0, 1] for label in LABELS])
    found = score("multilabel", labels_NC, names=["good", "never", "always"])
    assert found["tfidf-linear"].metrics["subset_accuracy"] == 1.0


def test_numbers_are_learned_from_the_words() -> None:
    found = score("regression", [float(label) for label in LABELS], names=[])
    assert list(found) == ["mean", "tfidf-linear"]
    assert found["mean"].metrics["rmse"] == pytest.approx(0.5)
    assert found["tfidf-linear"].metrics["rmse"] < 0.1
    assert "pearson" not in found["mean"].metrics
    assert set(found["mean"].intervals) <= set(found["mean"].metrics)


def test_the_same_seed_gives_the_same_scores() -> None:
    labels = [float(label) for label in LABELS]
    first, second = score("regression", labels), score("regression", labels)
    assert first["tfidf-linear"].metrics == second["tfidf-linear"].metrics
    assert first["tfidf-linear"].intervals == second["tfidf-linear"].intervals


def test_a_class_that_training_never_saw_has_no_probability() -> None:
    found = score("multiclass", LABELS, names=["bad", "good", "unseen"], test_labels=[2] * 20)
    assert found["tfidf-linear"].metrics["accuracy"] == 0.0
    assert found["tfidf-linear"].metrics["loss"] == pytest.approx(-np.log(1e-12))


def test_rows_above_the_cap_are_left_out_and_the_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MAX_ROWS", 50)
    found = score("multiclass", LABELS)
    assert found["tfidf-linear"].note == "trained on 50 of 120 rows, drawn with the seed"
    assert found["tfidf-linear"].metrics["accuracy"] == 1.0


def test_one_class_alone_is_not_trained_on() -> None:
    found = score("multiclass", [0] * len(LABELS))
    assert found["tfidf-linear"].note == "not trained: the training part holds one class only"
    assert found["tfidf-linear"].metrics == {}
    assert found["majority"].metrics["accuracy"] == 1.0


def test_texts_without_words_are_not_trained_on() -> None:
    found = score("multiclass", LABELS, train_texts=["!"] * len(LABELS))
    assert found["tfidf-linear"].note == "not trained: the texts of the training part hold no words"


def test_a_script_without_spaces_is_read_by_characters() -> None:
    good, bad = "这部电影的演员非常出色而且故事也很感人值得一看", "这部电影的情节十分无聊而且节奏也很缓慢令人失望"
    texts = [f"{number}{text}{number}" for number in range(30) for text in (good, bad)]
    test_texts = [f"{text[:20]}吧" for text in (good, bad)] * 5
    found = score("multiclass", [1, 0] * 30, train_texts=texts, test_texts=test_texts, test_labels=[1, 0] * 5)
    assert found["tfidf-linear"].metrics["accuracy"] == 1.0


def test_a_report_gets_keys_with_the_name_of_the_part() -> None:
    described = score("multiclass", LABELS)["majority"].describe()
    assert described["metrics"]["test/accuracy"] == 0.5
    assert sorted(described) == ["gain", "intervals", "metrics", "note", "seconds"]
    assert isinstance(described["intervals"]["test/accuracy"], list)


def test_a_part_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^baselines need rows: found 120 to train on and 0 to score$"):
        score("multiclass", LABELS, test_texts=[], test_labels=[])
