"""Checks on the user's own model, cheap enough to run every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from afina.data.batches import Indices
from afina.errors import ProofError
from afina.models.four_bits import holds_four_bits

if TYPE_CHECKING:
    from afina.training.session import Session

ROWS = 4
LEAST_COSINE = 0.999


def check_evaluation_keeps_gradient(session: Session) -> float:
    """The cosine between the gradients of the same rows before and after an evaluation: 1 up to rounding.

    Some 4-bit layers rearrange their weights when they are first evaluated and then lose most of the gradient in
    silence. Parameters, gradients and random state are left as they were. Models without 4-bit weights pass untested.

    Raises:
        ProofError: if evaluating changed the gradient.
    """
    if not holds_four_bits(session.model):
        return 1.0
    before = measure_gradient(session)
    session.model.eval()
    with torch.no_grad():
        session.objective.sum_losses(session.model, first_rows(session), session.accelerator)
    cosine = float(torch.nn.functional.cosine_similarity(before, measure_gradient(session), dim=0))
    if cosine < LEAST_COSINE:
        raise ProofError(
            "evaluating the 4-bit model changes its gradient",
            found=f"cosine {cosine:.4f} before and after",
            expected=f"at least {LEAST_COSINE}",
            remedy="--technique lora, or another version of bitsandbytes",
        )
    return cosine


def measure_gradient(session: Session) -> torch.Tensor:
    """The gradient of a few rows in one vector, without dropout's noise (the same seed each time)."""
    session.model.train()
    device = session.accelerator.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        loss = session.objective.sum_losses(session.model, first_rows(session), session.accelerator)
    loss.backward()  # type: ignore[no-untyped-call]
    gradient = torch.cat([p.grad.float().flatten() for p in session.model.parameters() if p.grad is not None])
    session.optimizer.zero_grad(set_to_none=True)
    return gradient.clone()


def first_rows(session: Session) -> Indices:
    """The first few training rows, no more than a step takes at once: a check mustn't be the peak of a run's memory."""
    return np.arange(min(ROWS, session.config.per_device_train_batch_size, len(session.objective.lengths)))
