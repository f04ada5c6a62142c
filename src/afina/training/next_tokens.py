"""The objective of language models: the mean negative log likelihood of the tokens that are learned.

It is normalised by these tokens over the whole optimizer step, so that four small batches are one of four times the
size whatever their lengths. A unit of the loop is a row, or several rows packed into one sequence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from afina.data.batches import Indices, order_evaluation_batches
from afina.data.encode_conversations import TrainedRows
from afina.data.packing import TokenBatch, collate_packed, collate_padded
from afina.metrics.intervals import bootstrap_ratio
from afina.models.batched import compute_batches
from afina.models.language_head import SplitLanguageModel, split_language_model
from afina.training.objective import check_finite
from afina.training.precision import precision_of

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn


@dataclass(frozen=True)
class TokenCounts:
    """What was found at the learned tokens of each of N rows of the user's file."""

    row_numbers_N: Indices
    """Rising, each once: a conversation that was split is one row."""
    losses_N: np.ndarray[tuple[int], np.dtype[np.float64]]
    """Summed negative log likelihood."""
    correct_N: Indices
    """Tokens that were the likeliest one."""
    tokens_N: Indices
    """Learned tokens."""

    def summarise(self) -> dict[str, float]:
        """`loss` (mean over tokens, in nats), `perplexity` and `token_accuracy`."""
        loss = float(self.losses_N.sum()) / int(self.tokens_N.sum())
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "token_accuracy": int(self.correct_N.sum()) / int(self.tokens_N.sum()),
        }

    def bootstrap(self, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
        """95 % intervals of `loss` and `token_accuracy`; none without resamples."""
        parts = {"loss": self.losses_N, "token_accuracy": self.correct_N} if resamples else {}
        return {name: bootstrap_ratio(each, self.tokens_N, resamples, seed) for name, each in parts.items()}

    def bootstrap_gain(self, before: TokenCounts, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
        """95 % interval of how much less `loss` these rows have than before, row by row; none without resamples."""
        if not resamples:
            return {}
        return {"loss": bootstrap_ratio(before.losses_N - self.losses_N, self.tokens_N, resamples, seed)}


@dataclass(frozen=True)
class NextTokens:
    """See `Objective`."""

    train: TrainedRows
    validation: TrainedRows
    pad_id: int
    eval_tokens_per_batch: int
    packs: Sequence[Indices] | None = field(default=None)
    """Rows of each packed sequence; None where each row is a sequence of its own."""
    uses_full_forward: bool = False
    """Whether the model is asked for its logits, since its halves don't make up the whole."""
    chooses_best: ClassVar[bool] = True
    is_sum: ClassVar[bool] = True

    @cached_property
    def lengths(self) -> Indices:
        if self.packs is None:
            return self.train.tokens.lengths
        return np.asarray([self.train.tokens.lengths[rows].sum() for rows in self.packs], np.int64)

    @cached_property
    def counts(self) -> Indices:
        """Learned tokens of each row, shape (N,)."""
        return self.train.trained_counts

    def weigh(self, rows: Indices) -> float:
        return float(self.counts[self.list_rows(rows)].sum())

    def sum_losses(self, model: nn.Module, rows: Indices, accelerator: Accelerator) -> torch.Tensor:
        batch = self.collate(rows).to(accelerator.device)
        with accelerator.autocast():
            return self.split_model(model).sum_losses(batch)

    def split_model(self, model: nn.Module) -> SplitLanguageModel:
        """The model in its halves, or undivided."""
        return SplitLanguageModel(model, None) if self.uses_full_forward else split_language_model(model)

    def collate(self, rows: Indices) -> TokenBatch:
        """The batch of some units."""
        if self.packs is None:
            return collate_padded(self.train, rows, self.pad_id)
        return collate_packed(self.train, [self.packs[unit] for unit in rows], self.pad_id)

    def evaluate(self, model: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        counts = self.measure(model, self.validation, accelerator)
        check_finite(counts.losses_N, counts.row_numbers_N)
        return counts.summarise()

    def measure(self, model: nn.Module, data: TrainedRows, accelerator: Accelerator) -> TokenCounts:
        """What the model says of all rows of any data; it is in evaluation mode afterwards."""
        model.eval()
        head, counts_N = self.split_model(model), data.trained_counts
        losses_N, correct_N = np.zeros(len(data)), np.zeros(len(data), np.int64)

        def compute(rows: Indices) -> list[tuple[float, int]]:
            batch = collate_padded(data, rows, self.pad_id).to(accelerator.device)
            # Places run through the batch row by row, as the rows' counts do.
            sizes = counts_N[rows].tolist()
            parts = torch.split(head.select_hidden(batch), sizes), torch.split(batch.targets_K, sizes)
            return [head.score_targets(*part) for part in zip(*parts, strict=True)]

        batches = order_evaluation_batches(data.tokens.lengths, self.eval_tokens_per_batch)
        device, precision = accelerator.device.type, precision_of(accelerator)
        for part, found in compute_batches(compute, batches, model, device=device, precision=precision):
            losses_N[part], correct_N[part] = zip(*found, strict=True)
        # The rows of one conversation aren't independent of each other, so that an interval must draw them together.
        numbers_N, firsts = np.unique(data.row_numbers, return_index=True)
        return TokenCounts(numbers_N, *(np.add.reduceat(each, firsts) for each in (losses_N, correct_N, counts_N)))

    def rank(self, scores: Mapping[str, float]) -> float:
        return -scores["loss"]

    def name_rows(self, rows: Indices) -> Sequence[int]:
        return [int(number) for number in self.train.row_numbers[self.list_rows(rows)]]

    def list_rows(self, units: Indices) -> Indices:
        """The rows of some units."""
        return units if self.packs is None else np.concatenate([self.packs[unit] for unit in units])
