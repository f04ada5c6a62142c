"""What the linear baseline said is found again to the last bit, and only for the same rows, seed and code."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afina.evaluation import linear, linear_cache
from afina.evaluation.baselines import score_baselines
from afina.evaluation.linear_cache import LinearCache
from afina.evaluation.prediction import Prediction

TEXTS = [f"{word} number {number}" for number in range(20) for word in ("kettle", "knife", "spoon")]
LABELS = np.arange(60) % 3
MARKS = np.stack([LABELS == 0, LABELS != 2], axis=1).astype(np.int64)
ASKED: dict[str, Any] = {
    "kind": "multiclass", "train_texts": TEXTS, "train": LABELS, "test_texts": TEXTS[:7], "classes": 3, "seed": 1,
}  # fmt: skip
OTHERS: list[dict[str, Any]] = [
    {"seed": 2},
    {"train": LABELS[::-1].copy()},
    {"train_texts": [*TEXTS[:-1], "fork"]},
    {"train_texts": ["", TEXTS[0] + TEXTS[1], *TEXTS[2:]]},
    {"test_texts": TEXTS[:8]},
    {"classes": 4},
]


@pytest.fixture
def cache(tmp_path: Path) -> LinearCache:
    return LinearCache(tmp_path / "cache", {"processor": "a"})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As many entries as there were trainings."""
    calls: list[int] = []
    plain = linear.fit_linear

    def count(*given: Any) -> Prediction:
        calls.append(len(calls))
        return plain(*given)

    monkeypatch.setattr(linear, "fit_linear", count)
    return calls


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_the_same_is_trained_once(cache: LinearCache, trained: list[int], kind: str) -> None:
    labels = {"multiclass": LABELS, "multilabel": MARKS, "regression": LABELS * 1.5}[kind]
    asked = {**ASKED, "kind": kind, "train": labels, "classes": 2 if kind == "multilabel" else 3}
    first, second = cache.fit(**asked), cache.fit(**asked)
    assert len(trained) == 1
    np.testing.assert_array_equal(first.values, second.values)
    assert (first.thresholds is None) == (second.thresholds is None) == (kind != "multilabel")
    if kind == "multilabel":
        np.testing.assert_array_equal(first.thresholds, second.thresholds)
    assert (first.seconds, second.note) == (None, first.note)
    assert second.seconds is not None
    assert second.seconds > 0


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: next(iter(other)))
def test_anything_else_is_trained_anew(cache: LinearCache, trained: list[int], other: dict[str, Any]) -> None:
    cache.fit(**ASKED)
    cache.fit(**{**ASKED, **other})
    assert len(trained) == 2


def test_another_processor_or_other_code_trains_anew(
    cache: LinearCache, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.fit(**ASKED)
    replace(cache, made_of={"processor": "b"}).fit(**ASKED)
    monkeypatch.setattr(linear_cache, "hash_code", lambda: "changed")
    cache.fit(**ASKED)
    assert len(trained) == 3


@pytest.mark.parametrize("content", [b"", b"no arrays"])
def test_a_damaged_file_is_replaced(cache: LinearCache, trained: list[int], content: bytes) -> None:
    cache.fit(**ASKED)
    (path,) = (cache.root / "baselines").iterdir()
    path.write_bytes(content)
    assert cache.fit(**ASKED).seconds is None
    assert cache.fit(**ASKED).seconds is not None
    assert len(trained) == 2


def test_what_is_large_is_not_kept(cache: LinearCache, trained: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_cache, "LARGEST_BYTES", 7 * 3 * 8 - 1)
    cache.fit(**ASKED)
    assert not cache.root.exists()


def test_it_is_private(cache: LinearCache) -> None:
    cache.fit(**ASKED)
    assert stat.S_IMODE((cache.root / "baselines").stat().st_mode) == 0o700


def test_a_baseline_keeps_the_seconds_of_its_training(cache: LinearCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def score(fit: Callable[..., Prediction]) -> Any:
        return score_baselines("multiclass", TEXTS, LABELS, TEXTS[:9], LABELS[:9], ["a", "b", "c"], 50, 0, fit)[1]

    plain, _, kept = score(linear.fit_linear), score(cache.fit), score(cache.fit)
    assert (kept.metrics, kept.intervals) == (plain.metrics, plain.intervals)
    (path,) = (cache.root / "baselines").iterdir()
    assert kept.seconds == linear_cache.recall_arrays(path)["seconds"][0]
