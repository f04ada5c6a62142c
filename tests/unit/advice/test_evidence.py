"""Evidence from features and words: held-out scores, growing shares, and what each of them can and can't know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from afina.advice.evidence import gather_evidence, score, take_share
from afina.models.probe import HeadProblem

N, WIDTH = 240, 12


def make_problem(kind: str = "multiclass", seed: int = 0) -> tuple[Any, list[str], HeadProblem]:
    """Features that tell two classes (or a number) apart, and texts whose words tell nothing."""
    random = np.random.Generator(np.random.PCG64(seed))
    marks_N = np.arange(N) % 2
    features_NH = random.normal(size=(N, WIDTH)).astype(np.float32)
    features_NH[:, 0] += 3.0 * marks_N
    texts = [" ".join(random.choice(["red", "green", "blue", "grey"], 5)) for _ in range(N)]
    labels: dict[str, Any] = {
        "multiclass": marks_N, "multilabel": np.stack([marks_N, 1 - marks_N], axis=1),
        "regression": features_NH[:, 0].astype(np.float64),
    }  # fmt: skip
    return features_NH, texts, HeadProblem(kind, labels[kind], 1 if kind == "regression" else 2, seed=seed)


@pytest.mark.parametrize(
    ("kind", "skill"), [("multiclass", "accuracy"), ("multilabel", "f1_micro"), ("regression", "r2")]
)
def test_features_that_tell_and_words_that_do_not(kind: str, skill: str) -> None:
    evidence = gather_evidence(*make_problem(kind), 0.1, True)
    assert (evidence.kind, evidence.skill, evidence.rows) == (kind, skill, N)
    assert evidence.probe > 0.85
    assert evidence.words is not None
    assert evidence.words < evidence.features - 0.2


def test_words_that_tell_and_features_that_do_not() -> None:
    _, _, problem = make_problem()
    features_NH = np.random.Generator(np.random.PCG64(1)).normal(size=(N, WIDTH)).astype(np.float32)
    texts = [f"a story that ends {'well' if label else 'badly'}" for label in problem.labels]
    evidence = gather_evidence(features_NH, texts, problem, 0.1, True)
    assert evidence.words == 1.0
    assert evidence.probe < 0.65


def test_words_give_a_label_from_their_own_threshold() -> None:
    """A rare label is given far below one half, as the baseline of the report does."""
    random = np.random.Generator(np.random.PCG64(4))
    marks_N = (random.random(N) < 0.15).astype(np.int64)
    texts = [f"word{random.integers(30)} {'alarm' if mark else 'calm'} word{random.integers(30)}" for mark in marks_N]
    labels = np.stack([marks_N, np.arange(N) % 2], axis=1)
    features_NH = random.normal(size=(N, WIDTH)).astype(np.float32)
    evidence = gather_evidence(features_NH, texts, HeadProblem("multilabel", labels, 2), 0.1, True)
    assert evidence.words is not None
    assert evidence.words > 0.6


def test_the_curve_grows_with_the_rows_and_is_of_rows_that_were_not_learned_from() -> None:
    features_NH, texts, _ = make_problem()
    random = np.random.Generator(np.random.PCG64(2))
    noise = HeadProblem("multiclass", random.integers(0, 2, N), 2)
    evidence = gather_evidence(features_NH, texts, noise, 10.0, True)
    assert [rows for rows, _ in evidence.curve] == [45, 90, 180]
    assert evidence.probe < 0.62, "labels at random can't be known on rows that weren't learned"
    assert evidence.learned > evidence.probe + 0.03, "though those that were learned are partly known by heart"


def test_rows_a_class_and_the_floor() -> None:
    features_NH, texts, _ = make_problem()
    evidence = gather_evidence(features_NH, texts, HeadProblem("multiclass", np.arange(N) % 4 // 3, 2), 0.1, True)
    assert evidence.floor == 0.75
    assert evidence.rows_per_class == N / 2


def test_texts_without_words_leave_the_words_out() -> None:
    features_NH, _, problem = make_problem()
    assert gather_evidence(features_NH, ["!!"] * N, problem, 0.1, True).words is None


def test_equal_seeds_give_equal_evidence() -> None:
    assert gather_evidence(*make_problem(), 0.1, True) == gather_evidence(*make_problem(), 0.1, True)


def test_a_smaller_share_lies_within_a_larger_one() -> None:
    rows = np.arange(100, 200)
    small, large = (set(take_share(rows, share, 3).tolist()) for share in (0.25, 0.5))
    assert small < large
    assert len(small) == 25


def test_scores_are_those_of_logits() -> None:
    assert score(np.float32([[1, 0], [0, 1], [2, 3]]), np.array([0, 1, 0]), "multiclass") == pytest.approx(2 / 3)
    assert score(np.float32([[1, -1], [-1, 1]]), np.array([[1, 0], [0, 1]]), "multilabel") == 1.0
    assert score(np.float32([[1], [2], [3]]), np.array([1.0, 2.0, 3.0]), "regression") == 1.0
