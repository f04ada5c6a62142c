"""Logits of rows, without gradients. Letters: N rows, C outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from afina.data.batches import Indices, collate_rows, order_evaluation_batches
from afina.data.encode import TokenArrays
from afina.models.batched import compute_batches

if TYPE_CHECKING:
    from torch import nn

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Inference:
    """How rows go through a model without gradients."""

    pad_id: int
    tokens_per_batch: int
    """Tokens of a batch, those of its padding included."""
    device: str
    precision: str
    """`bf16` or `fp32`."""


def predict_logits(model: nn.Module, tokens: TokenArrays, inference: Inference) -> Floats:
    """Logits of all rows in their order, shape (N, C); rows of like length are computed together.

    The model is in evaluation mode afterwards.
    """
    model.eval()
    logits_NC: Floats | None = None

    def compute(rows: Indices) -> Floats:
        batch = {key: value.to(inference.device) for key, value in collate_rows(tokens, rows, inference.pad_id).items()}
        logits_BC: Floats = model(**batch).logits.float().cpu().numpy()
        return logits_BC

    batches = order_evaluation_batches(tokens.lengths, inference.tokens_per_batch)
    for part, logits_BC in compute_batches(
        compute, batches, model, device=inference.device, precision=inference.precision
    ):
        if logits_NC is None:
            logits_NC = np.empty((len(tokens), logits_BC.shape[1]), np.float32)
        logits_NC[part] = logits_BC
    assert logits_NC is not None, "there is at least one row"
    return logits_NC
