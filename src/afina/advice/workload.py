"""The rows of a run, as far as its costs depend on them."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import dataclass

import numpy as np

from afina.config.run import TrainingConfig
from afina.data.batches import Indices
from afina.data.encode import TokenArrays
from afina.data.packing import share_sequences

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

    def count_batch(self, training: TrainingConfig, max_seq_length: int) -> tuple[int, int]:
        """Rows, or packed sequences, of a pass; and passes of an optimizer step."""
        rows, passes = training.per_device_train_batch_size, training.gradient_accumulation_steps
        if not self.is_packed:
            return rows, passes
        return share_sequences(rows, passes, len(self.lengths), self.count_sequences(max_seq_length))

    def count_sequences(self, max_seq_length: int) -> int:
        """Sequences that hold the rows whose length is known."""
        return max(1, -(-int(self.lengths.sum()) // max_seq_length))

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
