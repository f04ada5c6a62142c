"""The gradient of one optimizer step: a mean over all rows of its window, in as many passes as memory needs.

Where a pass runs out of memory it is made of half as many rows, twice as often, and the step begins anew: nothing was
moved yet. The rows of the step, their order, their mean and the seed stay, so that the result is the same up to
rounding. The smaller size stays for later steps, and for a run that is resumed. Only an objective that compares the
rows of a pass with each other (`is_sum` is false) is another one then, which is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from afina.data.batches import Indices
from afina.errors import TrainingError
from afina.kernels.lanes import LANES, Lanes, open_lanes
from afina.models.shortage import describe_shortage, release_memory
from afina.training.events import Incident, notify
from afina.training.halves import add_halves
from afina.training.seed import seed_torch
from afina.training.session import Session, save_checkpoint, stop_if_asked


@dataclass(frozen=True)
class Gradient:
    """What is known of the gradient that the parameters now hold."""

    loss: float
    """Mean over the window's rows."""
    norm: float
    """L2 norm."""


def compute_gradient(session: Session, window: Sequence[Indices]) -> Gradient:
    """The gradient of the window's mean loss, left in the parameters.

    Raises:
        Interrupted: after a signal, which doesn't wait for the rest of the window.
        TrainingError: if memory is too small for a single row.
    """
    while True:
        try:
            return sum_passes(session, window)
        except (RuntimeError, MemoryError) as error:
            shortage = describe_shortage(error)
            if shortage is None:
                raise
        # Here and not in the handler: the error holds the frames of the pass, and with them its tensors.
        session.optimizer.zero_grad(set_to_none=True)
        release_memory(session.accelerator.device.type)
        take_smaller_passes(session, shortage)


def sum_passes(session: Session, window: Sequence[Indices]) -> Gradient:
    """The same, all at one size of pass."""
    objective, accelerator = session.objective, session.accelerator
    seed_torch(session.seed, "step", session.progress.step)
    session.model.train()
    total_weight = sum(objective.weigh(rows) for rows in window)
    window_loss = torch.zeros((), device=accelerator.device)
    passes = cut_passes(session, window)
    with open_lanes(LANES if session.halves else 1) as lanes:
        for rows in passes:
            stop_if_asked(session)
            session.memory.check()
            window_loss += add_pass(session, rows, total_weight, lanes)
            if len(passes) > 1:
                session.optimizer.end_pass()
    return read_gradient(session, window_loss)


def add_pass(session: Session, rows: Indices, total_weight: float, lanes: Lanes) -> torch.Tensor:
    """Add the gradient of these rows' share in the mean to what the parameters hold; gives that share."""
    model, objective, accelerator = session.model, session.objective, session.accelerator
    parts = session.halves.cut(rows, objective.lengths) if session.halves else [rows]
    if len(parts) > 1:
        return add_halves(model, objective, accelerator, session.optimizer, parts, total_weight, lanes)
    loss = objective.sum_losses(model, rows, accelerator) / total_weight
    accelerator.backward(loss)
    return loss.detach()


def read_gradient(session: Session, loss: torch.Tensor) -> Gradient:
    """The loss beside the norm of the gradient that the parameters hold: the one place that waits for the device."""
    return Gradient(*torch.stack([loss.detach(), session.optimizer.measure_norm().to(loss)]).tolist())


def cut_passes(session: Session, window: Sequence[Indices]) -> list[Indices]:
    """The window's batches, in their order, in pieces that memory allows."""
    size = session.progress.rows_per_pass or session.config.per_device_train_batch_size
    return [rows[start : start + size] for rows in window for start in range(0, len(rows), size)]


def clip_gradient(session: Session, gradient: Gradient) -> None:
    """Scale down a gradient that is longer than the settings allow; others are left alone, not multiplied by 1."""
    limit = session.config.max_grad_norm
    if limit and gradient.norm > limit:
        session.optimizer.clip(gradient.norm, limit)


def take_smaller_passes(session: Session, shortage: str) -> None:
    """Half as many rows a pass from here on.

    Raises:
        TrainingError: if it is one row already; a checkpoint holds the run.
    """
    progress, config = session.progress, session.config
    size = progress.rows_per_pass or config.per_device_train_batch_size
    step = progress.step + 1
    if size == 1:
        save_checkpoint(session)
        raise TrainingError(
            f"a single row is too much for the memory at step {step}",
            found=shortage,
            remedy="a smaller --max-seq-length, --set training.gradient_checkpointing=true, --technique lora or qlora,"
            " or a smaller model",
        )
    progress.rows_per_pass = -(-size // 2)
    values = {"step": step, "rows_per_pass": progress.rows_per_pass, "why": shortage}
    progress.smaller_passes.append(values)
    alike = "" if session.objective.is_sum else ", of which each is compared with fewer others"
    text = (
        f"step {step}: {shortage}; at most {progress.rows_per_pass} instead of {size} rows a pass from here on, each"
        f" step over the same rows as before{alike}"
    )
    notify(session.callbacks, "on_incident", step, Incident("smaller_passes", text, values))
