"""Plain baselines of tagged words: the commonest tag, and for each word the tag that it has most often in training.

Both ignore the words around. A word that training doesn't have gets O, or where no tag is O the commonest one.
Letters: N rows, K words of all rows, C tags.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afina.evaluation.baselines import Baseline
from afina.metrics.paired import ScoredRows
from afina.metrics.tags import OUTSIDE, Tagging, count_rows

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TaggedText:
    """Rows of words with their tags."""

    words: Iterable[str]
    """The words of all rows (K,)."""
    tags: NDArray[Any]
    """Numbers of tags (K,)."""
    offsets: Ints
    """Where each row begins, and the end (N + 1,)."""


def score_tag_baselines(
    tagging: Tagging, train: Sequence[TaggedText], test: TaggedText, resamples: int, seed: int
) -> list[Baseline]:
    """`majority` and `dictionary`, plainest first, scored on the rows of `test`.

    Args:
        train: the parts that were learned from.
        resamples: behind each interval, 0 for none.
    """
    start = time.perf_counter()
    totals_C = sum(np.bincount(part.tags, minlength=len(tagging.names)) for part in train)
    commonest = int(np.argmax(totals_C))
    always_K = np.full(len(test.tags), commonest, np.int64)
    middle = time.perf_counter()
    otherwise = tagging.names.index(OUTSIDE) if OUTSIDE in tagging.names else commonest
    by_word = learn_dictionary(train)
    looked_up_K = np.fromiter((by_word.get(word, otherwise) for word in test.words), np.int64, len(test.tags))
    end = time.perf_counter()
    entries = (("majority", always_K, middle - start), ("dictionary", looked_up_K, end - middle))
    return [score_entry(name, tagging, tags_K, test, seconds, resamples, seed) for name, tags_K, seconds in entries]


def learn_dictionary(train: Sequence[TaggedText]) -> dict[str, int]:
    """The tag that each word has most often; of equals the first in the order of tags."""
    counts: dict[str, dict[int, int]] = {}
    for part in train:
        for word, tag in zip(part.words, part.tags.tolist(), strict=True):
            known = counts.setdefault(word, {})
            known[tag] = known.get(tag, 0) + 1
    return {word: min(known, key=lambda tag: (-known[tag], tag)) for word, known in counts.items()}


def score_entry(
    name: str, tagging: Tagging, tags_K: Ints, test: TaggedText, seconds: float, resamples: int, seed: int
) -> Baseline:
    """The scores of one baseline."""
    counts = count_rows(tagging, tags_K, test.tags, test.offsets)
    kind = "tags" if tagging.is_plain else "entities"
    return Baseline(
        name, counts.summarise(), counts.bootstrap(resamples, seed), seconds, outcomes=ScoredRows(kind, tags=counts)
    )
