"""The loop: `fit` runs epochs, `run_epoch` runs windows of batches, `train_step` makes one optimizer step,
`eval_step` measures the validation part.

What a step does is a function of the seed, the step's number and the weights: the order of rows, the dropout and
the learning rate are computed from these, so a resumed run takes the very steps that it would have taken. The loop
knows a task by its objective and a technique by what is trainable, and nothing else of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

import torch
from accelerate import Accelerator
from torch import nn

from afina.config.run import TrainingConfig
from afina.data.batches import Indices, group_windows, order_training_batches
from afina.errors import Interrupted, TrainingError, describe_rows
from afina.training.best import restore_best
from afina.training.checkpoint import Checkpoint, CheckpointStore, restore_moments, restore_weights
from afina.training.events import Callback, StopTraining, TrainingPlan, notify
from afina.training.objective import Objective
from afina.training.optim import learning_rate_at, set_learning_rate
from afina.training.seed import seed_torch
from afina.training.signals import StopSignals

# What a run says whose first evaluation, before any step, was the best one.
UNMOVED = (
    "none of the {steps} steps was better on the validation rows than the start, so the result is the start: {result}"
)


@dataclass
class Progress:
    """Where a run stands; with the weights and the moments it is all that a checkpoint needs."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epochs done."""
    window: int = 0
    """Optimizer steps done within the epoch."""
    best_rank: float | None = None
    """Best main score of the validation part so far, the larger the better."""
    best_loss: float | None = None
    """Validation loss of that evaluation."""
    best_step: int | None = None
    """The step it was measured at."""
    worse_evaluations: int = 0
    """Evaluations since then."""


@dataclass
class Session:
    """Everything that a training needs, in one place."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    objective: Objective
    config: TrainingConfig
    learning_rate: float
    epochs: int
    seed: int
    store: CheckpointStore
    signals: StopSignals
    callbacks: Sequence[Callback] = ()
    progress: Progress = field(default_factory=Progress)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the training part."""
        batches = -(-len(self.objective.lengths) // self.config.per_device_train_batch_size)
        return -(-batches // self.config.gradient_accumulation_steps)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training, if nothing stops it early."""
        return self.steps_per_epoch * self.epochs

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the validation score has not improved for as long as the settings allow."""
        patience = self.config.early_stopping_patience
        return patience > 0 and self.progress.worse_evaluations >= patience


def fit(session: Session) -> None:
    """Train until the last epoch, until patience runs out or a listener ends it; the model then has the weights of the
    best evaluation.

    Raises:
        Interrupted: after a signal; a checkpoint holds the run.
        TrainingError: if the loss is not a finite number.
    """
    progress = session.progress
    plan = TrainingPlan(session.total_steps, session.epochs, progress.step)
    notify(session.callbacks, "on_train_begin", plan)
    with suppress(StopTraining):
        if progress.best_step is None and session.config.head_init == "probe":
            evaluate_and_save(session)  # the solved head is a result of its own: training may make it worse
        while progress.epoch < session.epochs and not session.is_out_of_patience:
            run_epoch(session)
    if progress.best_step != progress.step and progress.best_step is not None:
        restore_best(session)
    notify(session.callbacks, "on_train_end", progress.step, asdict(progress))


def run_epoch(session: Session) -> None:
    """Take the steps that are left of the epoch, then evaluate and save."""
    progress, config = session.progress, session.config
    batches = order_training_batches(
        session.objective.lengths, config.per_device_train_batch_size, session.seed, progress.epoch
    )
    windows = group_windows(batches, config.gradient_accumulation_steps)
    for window in windows[progress.window :]:
        values = train_step(session, window)
        progress.step += 1
        progress.window += 1
        values["epoch"] = progress.epoch + progress.window / len(windows)
        notify(session.callbacks, "on_step_end", progress.step, values)
        stop_if_asked(session)
        if config.save_steps and progress.step % config.save_steps == 0 and progress.window < len(windows):
            save_checkpoint(session)
    progress.epoch += 1
    progress.window = 0
    evaluate_and_save(session)
    stop_if_asked(session)


def evaluate_and_save(session: Session) -> None:
    """Measure the validation part, note whether it is the best so far, and write a checkpoint."""
    progress = session.progress
    scores = eval_step(session)
    remember_best(progress, session.objective.rank(scores), scores["loss"])
    values = {f"validation/{name}": value for name, value in scores.items()}
    notify(session.callbacks, "on_evaluate_end", progress.step, {**values, "epoch": float(progress.epoch)})
    save_checkpoint(session)


def train_step(session: Session, window: Sequence[Indices]) -> dict[str, float]:
    """One optimizer step over the batches of `window`, whose mean loss is over all their rows at once."""
    objective, step = session.objective, session.progress.step
    learning_rate = learning_rate_at(step, session.total_steps, session.learning_rate, session.config)
    set_learning_rate(session.optimizer, learning_rate)
    seed_torch(session.seed, "step", step)
    session.model.train()
    total_weight = sum(objective.weigh(rows) for rows in window)
    window_loss = torch.zeros((), device=session.accelerator.device)
    for rows in window:
        loss = objective.sum_losses(session.model, rows, session.accelerator) / total_weight
        session.accelerator.backward(loss)
        window_loss += loss.detach()
    norm = clip_gradients(session)
    if not torch.isfinite(window_loss + norm):
        raise_not_finite(session, window)
    session.optimizer.step()
    session.optimizer.zero_grad(set_to_none=True)
    rows_done = sum(len(rows) for rows in window)
    return {"loss": float(window_loss), "learning_rate": learning_rate, "grad_norm": float(norm), "rows": rows_done}


def eval_step(session: Session) -> dict[str, float]:
    """Loss and scores of the validation part."""
    return session.objective.evaluate(session.model, session.accelerator)


def start_accelerator(device: str, precision: str) -> Accelerator:
    """accelerate's handle on the device; its state is one for the whole process, so an earlier run's is let go first.

    Raises:
        TrainingError: under a launcher of several processes, which this loop doesn't share its rows among.
    """
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="bf16" if precision == "bf16" else "no")
    if accelerator.num_processes > 1:
        raise TrainingError("afina trains in one process", found=f"{accelerator.num_processes} processes")
    return accelerator


def clip_gradients(session: Session) -> torch.Tensor:
    """The gradient's L2 norm before clipping. A gradient within the limit is left alone rather than multiplied by 1."""
    parameters = [p for group in session.optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    limit = session.config.max_grad_norm
    if limit and norm > limit:
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


def remember_best(progress: Progress, rank: float, loss: float) -> None:
    """Note whether this evaluation is the best one so far; of two with equal scores the one with less loss is.

    The loss alone would not do: it rises when a model that is right more often is also surer of its errors.
    """
    known = progress.best_rank is not None and progress.best_loss is not None
    if not known or (rank, -loss) > (progress.best_rank, -(progress.best_loss or 0.0)):
        progress.best_rank, progress.best_loss = rank, loss
        progress.best_step, progress.worse_evaluations = progress.step, 0
    else:
        progress.worse_evaluations += 1


def save_checkpoint(session: Session) -> None:
    """Write where the run stands; on a full disk the run goes on without."""
    folder = session.store.try_save(session.model, session.optimizer, asdict(session.progress))
    if folder:
        notify(session.callbacks, "on_checkpoint", session.progress.step, str(folder))


def resume_from(session: Session, checkpoint: Checkpoint) -> None:
    """Put the session where the checkpoint was taken."""
    restore_weights(checkpoint, session.model)
    restore_moments(checkpoint, session.model, session.optimizer)
    session.progress = Progress(**checkpoint.state)


def stop_if_asked(session: Session) -> None:
    """Save and leave if a signal has come."""
    if session.signals.received is None:
        return
    save_checkpoint(session)
    found = f"this step couldn't be saved; {session.store.describe_newest()}" if session.store.is_failing else ""
    raise Interrupted(session.signals.exit_code, session.store.folder.parent, found=found)


def raise_not_finite(session: Session, window: Sequence[Indices]) -> None:
    """Stop at the first loss or gradient that isn't a number, naming the rows and what usually helps."""
    rows = sorted(number for rows in window for number in session.objective.name_rows(rows))
    raise TrainingError(
        f"the loss or its gradient is not a finite number at step {session.progress.step + 1}",
        found=f"training {describe_rows(rows)}",
        remedy="a smaller --set training.learning_rate, or --set training.precision=fp32; the rows may hold odd text",
    )
