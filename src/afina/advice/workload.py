"""The rows of a run, as far as its costs depend on them."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import dataclass

import numpy as np

from afina.data.batches import Indices
from afina.data.encode import TokenArrays

# Different words grow with this power of the number of words in a text (Heaps 1978).
HEAPS = 0.6


@dataclass(frozen=True)
class Workload:
    """The rows of a run."""

    train_rows: int
    validation_rows: int
    test_rows: int
    lengths: Indices
    """Tokens of each training row, or of a sample of them."""
    learned_fraction: float = 0.0
    """Share of a language model's tokens that it learns to say; 0 for the other tasks."""
    is_packed: bool = False
    """Whether rows share sequences of `max_seq_length` tokens."""
    distinct_tokens: int | None = None
    """Different tokens of the training rows; None where they aren't known."""

    @classmethod
    def of_parts(
        cls, parts: Mapping[str, Sized], tokens: TokenArrays, learned_fraction: float = 0.0, is_packed: bool = False
    ) -> Workload:
        """The rows of the parts; one that the run leaves alone has none.

        Args:
            tokens: of the training rows, or of a sample of them.
        """
        train, validation, test = (len(parts.get(name, ())) for name in ("train", "validation", "test"))
        distinct = np.count_nonzero(np.bincount(tokens.ids)) * (train / len(tokens)) ** HEAPS
        return cls(train, validation, test, tokens.lengths, learned_fraction, is_packed, int(distinct))
