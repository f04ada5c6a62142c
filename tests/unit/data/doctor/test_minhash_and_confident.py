"""The two estimates behind the findings: similar texts without comparing all, and labels that don't fit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from afina.data.doctor.confident import find_suspect_marks, find_suspects
from afina.data.doctor.minhash import BAND, HASHES, compare, join_bands, sign_texts, split_shingles


def test_signatures_agree_as_often_as_sets_do() -> None:
    words = [f"w{i}" for i in range(400)]
    first, second = " ".join(words[:300]), " ".join(words[100:])
    likeness = compare(split_shingles(first), split_shingles(second))
    assert likeness == pytest.approx(0.5, abs=0.01)
    texts = [f"{' '.join(words[i : i + 150])}" for i in range(100)]
    signatures = sign_texts(texts)
    agree = (signatures[:-1] == signatures[1:]).mean()
    wanted = np.mean([compare(split_shingles(a), split_shingles(b)) for a, b in pairwise(texts)])
    assert agree == pytest.approx(wanted, abs=0.02)


def test_equal_texts_agree_in_all_bands_and_others_in_none() -> None:
    bands = join_bands(sign_texts(["one two three four", "ONE two  three four", "nothing of the kind at all", ""]))
    assert bands.shape == (4, HASHES // BAND)
    assert (bands[0] == bands[1]).all()
    assert not (bands[0] == bands[2]).any()
    assert join_bands(sign_texts([])).shape == (0, HASHES // BAND)


def test_the_counting_rule_by_hand() -> None:
    # Thresholds: class 0 (0.9 + 0.8 + 0.1) / 3 = 0.6, class 1 (0.9 + 0.7) / 2 = 0.8.
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.1, 0.9], [0.3, 0.7]])
    found = find_suspects(probabilities, np.array([0, 0, 0, 1, 1]))
    assert found.places.tolist() == [2]
    assert found.better.tolist() == [1]
    assert found.margins == pytest.approx([0.8])
    assert len(found.surer_than(0.9).places) == 0


def test_a_class_of_few_rows_draws_no_suspicion() -> None:
    # Class 2 has a threshold of 0.001, which row 0 passes though its own class is the likeliest.
    probabilities = np.array([[0.7, 0.298, 0.002], [0.9, 0.099, 0.001], [0.5, 0.499, 0.001]])
    assert len(find_suspects(probabilities, np.array([0, 0, 2])).places) == 0


def test_changed_labels_are_found() -> None:
    random = np.random.Generator(np.random.PCG64(0))
    truth = random.integers(0, 3, 300)
    logits = random.normal(0, 1, (300, 3)) + 5 * np.eye(3)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = truth.copy()
    labels[:20] = (labels[:20] + 1) % 3
    found = set(find_suspects(probabilities, labels).surer_than(0.5).places.tolist())
    assert len(found & set(range(20))) >= 16
    assert len(found - set(range(20))) <= 5


def test_marks_are_questions_of_their_own_and_a_row_is_named_once() -> None:
    marks = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 0], [1, 1]], np.uint8)
    likely = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.95, 0.85], [0.1, 0.9]])
    found = find_suspect_marks(likely, marks)
    # The fifth lacks both, the first surest; the sixth has the first for nothing.
    assert found.places.tolist() == [4, 5]
    assert found.better.tolist() == [0, 0]
    assert found.margins.tolist() == pytest.approx([0.9, 0.8])
    assert find_suspect_marks(likely[:4], marks[:4]).places.tolist() == []
    nobody = np.zeros((4, 1), np.uint8)
    assert find_suspect_marks(np.full((4, 1), 0.99), nobody).places.tolist() == [], "a label that no row has"
