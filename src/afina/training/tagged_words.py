"""The objective of tagged words: the mean loss of the words that are learned.

It is normalised by these words over the whole optimizer step, so that four small batches are one of four times the size
whatever their lengths. A unit of the loop is a window (`data/encode_words.py`).
Letters: B windows, T tokens, K words, C tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from afina.data.batches import Indices, order_evaluation_batches
from afina.data.encode_words import TaggedTokens, WordTokens, collate_words, list_words
from afina.models.batched import compute_batches
from afina.tasks.base import Floats, TaskState
from afina.tasks.token_classification import TokenClassification
from afina.training.inference import Inference
from afina.training.objective import check_finite
from afina.training.precision import precision_of

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn


@dataclass(frozen=True)
class TaggedWords:
    """See `Objective`."""

    task: TokenClassification
    state: TaskState
    train: TaggedTokens
    validation: TaggedTokens
    pad_id: int
    eval_tokens_per_batch: int
    chooses_best: ClassVar[bool] = True
    is_sum: ClassVar[bool] = True

    @cached_property
    def lengths(self) -> Indices:
        return self.train.tokens.lengths

    def weigh(self, rows: Indices) -> float:
        return float(self.task.row_weights(self.take_tags(rows), self.state).sum(dtype=np.float64))

    def take_tags(self, windows: Indices) -> Indices:
        """The tags of the words of some training windows."""
        return self.train.tags.tags[self.train.list_words(windows)].astype(np.int64)

    def sum_losses(self, model: nn.Module, rows: Indices, accelerator: Accelerator) -> torch.Tensor:
        batch, places_K = collate_words(self.train.words, rows, self.pad_id)
        inputs = {name: tensor.to(accelerator.device) for name, tensor in batch.items()}
        tags_K = torch.from_numpy(self.take_tags(rows)).to(accelerator.device)
        with accelerator.autocast():
            logits_BTC = model(**inputs).logits
        logits_KC = logits_BTC.flatten(0, 1)[places_K.to(accelerator.device)]
        return self.task.losses(logits_KC, tags_K, self.state).sum()

    def evaluate(self, model: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        part = self.validation
        device, precision = accelerator.device.type, precision_of(accelerator)
        logits_KC = predict_words(
            model, part.words, Inference(self.pad_id, self.eval_tokens_per_batch, device, precision)
        )
        check_finite(logits_KC.sum(axis=1), np.repeat(part.row_numbers, np.diff(part.tags.offsets)))
        return self.task.score(logits_KC, part.tags, self.state)  # type: ignore[arg-type]

    def rank(self, scores: Mapping[str, float]) -> float:
        return self.task.rank(scores)

    def name_rows(self, rows: Indices) -> Sequence[int]:
        return [int(number) for number in np.unique(self.train.number_windows(rows))]


def predict_words(model: nn.Module, words: WordTokens, inference: Inference) -> Floats:
    """Logits of all words in their order, shape (K, C). The model is in evaluation mode afterwards."""
    model.eval()
    logits_KC: Floats | None = None

    def compute(windows: Indices) -> list[Floats]:
        batch, places_K = collate_words(words, windows, inference.pad_id)
        logits_BTC = model(**{name: tensor.to(inference.device) for name, tensor in batch.items()}).logits
        found = logits_BTC.flatten(0, 1)[places_K.to(inference.device)].float().cpu().numpy()
        counts = np.diff(words.word_offsets)[windows]
        return list(np.split(found, np.cumsum(counts)[:-1]))

    batches = order_evaluation_batches(words.tokens.lengths, inference.tokens_per_batch)
    device, precision = inference.device, inference.precision
    for part, found in compute_batches(compute, batches, model, device=device, precision=precision):
        if logits_KC is None:
            logits_KC = np.empty((int(words.word_offsets[-1]), found[0].shape[1]), np.float32)
        logits_KC[list_words(words, part)] = np.concatenate(found)
    assert logits_KC is not None, "there is at least one word"
    return logits_KC
