"""How long the texts are, in words and characters: what a limit would cut."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afina.data.doctor.check import Check
from afina.data.doctor.subject import Batch, Subject
from afina.data.scripts import count_words

LIMITS = (64, 128, 256, 512, 1024, 2048, 4096)
QUANTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99, "longest": 1.0}


class Lengths(Check):
    """Counts; it finds nothing wrong by itself."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.words, self.characters = array("l"), array("l")

    def look(self, batch: Batch) -> None:
        self.words.extend(map(count_words, batch.texts))
        self.characters.extend(map(len, batch.texts))

    def facts(self) -> dict[str, Any]:
        """Quantiles of words and characters."""
        return {
            "words": summarise(np.array(self.words, np.int64)),
            "characters": summarise(np.array(self.characters, np.int64)),
        }


def summarise(lengths_N: NDArray[np.int64]) -> dict[str, int]:
    """Some quantiles by name."""
    if not len(lengths_N):
        return {}
    return {name: int(np.quantile(lengths_N, share, method="higher")) for name, share in QUANTILES.items()}


def tabulate_cuts(lengths_N: NDArray[np.int64]) -> list[Mapping[str, Any]]:
    """For each usual limit, the share of the texts that are longer, and of their tokens that would be lost."""
    total = max(1, int(lengths_N.sum()))
    return [
        {
            "limit": limit,
            "texts": float((lengths_N > limit).mean()),
            "tokens": float(np.maximum(0, lengths_N - limit).sum() / total),
        }
        for limit in LIMITS
        if limit < int(lengths_N.max(initial=0)) * 2
    ]
