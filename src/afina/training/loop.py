"""The loop: `fit` runs epochs, `run_epoch` runs windows of batches, `train_step` makes one optimizer step,
`eval_step` measures the validation part.

What a step does is a function of the seed, the step's number and the weights: the order of rows, the dropout and
the learning rate are computed from these, so a resumed run takes the very steps that it would have taken. The loop
knows a task by its objective and a technique by what is trainable, and nothing else of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

from afina.data.batches import Indices, group_windows, order_training_batches
from afina.metrics.naming import prefix_scores
from afina.training.best import restore_best
from afina.training.events import StopTraining, TrainingPlan, notify
from afina.training.gradients import clip_gradient, compute_gradient
from afina.training.not_finite import is_finite, skip_step
from afina.training.optim import learning_rate_at, set_learning_rate
from afina.training.session import Progress, Session, save_checkpoint, stop_if_asked
from afina.training.signals import CutShort
from afina.training.spikes import watch_for_spikes


def fit(session: Session) -> None:
    """Train until the last epoch, until patience runs out or a listener ends it; the model then has the weights of the
    best evaluation.

    Raises:
        Interrupted: after a signal; a checkpoint holds the run.
        TrainingError: if too many steps had to be skipped, or memory is too small for one row.
    """
    progress = session.progress
    plan = TrainingPlan(session.total_steps, session.last_epoch, progress.step)
    notify(session.callbacks, "on_train_begin", plan)
    with suppress(StopTraining):
        if progress.best_step is None and session.evaluates_start:
            evaluate_and_save(session, epoch=0, window=0)
        while progress.epoch < session.last_epoch and not session.is_out_of_patience:
            run_epoch(session)
    if progress.best_step != progress.step and progress.best_step is not None:
        restore_best(session)
    notify(session.callbacks, "on_train_end", progress.step, asdict(progress))


def run_epoch(session: Session) -> None:
    """Take the steps that are left of the epoch, evaluating between them as often as asked, then evaluate and save.

    An evaluation stands before the next step, not after the last one: a run that was stopped in between makes up for
    it when it goes on.
    """
    progress, config = session.progress, session.config
    batches = order_training_batches(
        session.objective.lengths, config.per_device_train_batch_size, session.seed, progress.epoch
    )
    windows = group_windows(batches, config.gradient_accumulation_steps)
    for window in windows[progress.window :]:
        if progress.step >= session.total_steps:
            break
        if session.is_evaluation_due:
            evaluate_and_save(session, epoch=progress.epoch, window=progress.window)
            if session.is_out_of_patience:
                return
        values = train_step(session, window)
        progress.step += 1
        progress.window += 1
        if values is not None:
            values["epoch"] = progress.epoch + progress.window / len(windows)
            notify(session.callbacks, "on_step_end", progress.step, values)
        stop_if_asked(session)
        if session.is_save_due and progress.window < len(windows):
            save_checkpoint(session)
    evaluate_and_save(session, epoch=progress.epoch + 1, window=0)
    stop_if_asked(session)


def evaluate_and_save(session: Session, *, epoch: int, window: int) -> None:
    """Measure the validation part, note whether it is the best so far, and write a checkpoint.

    Args:
        epoch: epochs that are done with this evaluation.
        window: optimizer steps done within the next one.
    """
    progress = session.progress
    scores = eval_step(session)
    passes = progress.epoch + progress.window / session.steps_per_epoch
    progress.epoch, progress.window, progress.evaluated_step = epoch, window, progress.step
    objective = session.objective
    remember_best(progress, objective.rank(scores), scores["loss"], is_chosen=objective.chooses_best)
    values = prefix_scores("validation", scores)
    notify(session.callbacks, "on_evaluate_end", progress.step, {**values, "epoch": passes})
    save_checkpoint(session)


def train_step(session: Session, window: Sequence[Indices]) -> dict[str, float] | None:
    """One optimizer step over the batches of `window`, whose mean loss is over all their rows at once.

    None for a step that was skipped, since its loss or its gradient wasn't a number.
    """
    learning_rate = learning_rate_at(session.progress.step, session.total_steps, session.learning_rate, session.config)
    set_learning_rate(session.optimizer, learning_rate)
    gradient = compute_gradient(session, window)
    if not is_finite(gradient):
        skip_step(session, window, gradient)
        return None
    clip_gradient(session, gradient)
    session.optimizer.step()
    session.optimizer.zero_grad(set_to_none=True)
    watch_for_spikes(session, gradient)
    return {
        "loss": gradient.loss,
        "learning_rate": learning_rate,
        "grad_norm": gradient.norm,
        "rows": sum(len(rows) for rows in window),
        "tokens": sum(int(session.objective.lengths[rows].sum()) for rows in window),
    }


def eval_step(session: Session) -> dict[str, float]:
    """Loss and scores of the validation part. A signal cuts it short; it is done anew when the run goes on."""
    notify(session.callbacks, "on_evaluate_begin", session.progress.step)
    try:
        with session.signals.cutting():
            return session.objective.evaluate(session.model, session.accelerator)
    except CutShort:
        stop_if_asked(session)
        raise


def remember_best(progress: Progress, rank: float, loss: float, *, is_chosen: bool = True) -> None:
    """Note whether this evaluation is the best one so far; of two with equal scores the one with less loss is.

    A head that starts at its optimum is first spoilt by a backbone that moves, so patience counts the evaluations after
    the first step alone: they may get better for a long time before they beat the start.

    The loss alone would not do: it rises when a model that is right more often is also surer of its errors. Where the
    scores choose nothing, the newest evaluation stands for the best.
    """
    is_best = not is_chosen or is_better(rank, loss, progress.best_rank, progress.best_loss)
    is_best_trained = progress.step > 0 and is_better(rank, loss, progress.trained_rank, progress.trained_loss)
    if is_best:
        progress.best_rank, progress.best_loss, progress.best_step = rank, loss, progress.step
    if is_best_trained:
        progress.trained_rank, progress.trained_loss = rank, loss
    progress.worse_evaluations = 0 if is_best or is_best_trained else progress.worse_evaluations + 1


def is_better(rank: float, loss: float, known_rank: float | None, known_loss: float | None) -> bool:
    """Whether an evaluation is better than the best one known, if one is."""
    return known_rank is None or known_loss is None or (rank, -loss) > (known_rank, -known_loss)
