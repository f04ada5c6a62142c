"""The training loop of a run, set up around its model and objective: the same for labels and for language models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accelerate import Accelerator
from torch import nn

from afina.config.run import TrainingConfig
from afina.kernels.allocator import keep_freed_memory
from afina.pipeline.listeners import make_listeners
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepared_run import PreparedRun
from afina.pipeline.resuming import Saved
from afina.training.events import notify
from afina.training.halves import plan_halves
from afina.training.loop import fit
from afina.training.memory_guard import MemoryGuard
from afina.training.objective import Objective
from afina.training.optim import make_optimizer
from afina.training.proofs import check_evaluation_keeps_gradient
from afina.training.seen_rows import train_seen_rows
from afina.training.session import Progress, Session, resume_from
from afina.training.signals import StopSignals
from afina.training.weight_copies import suits_copies, train_weight_copies

if TYPE_CHECKING:
    from afina.data.encode import TokenArrays


def take_steps(
    prepared: PreparedRun, model: nn.Module, objective: Objective, accelerator: Accelerator, tokens: TokenArrays,
    saved: Saved, narrator: Narrator, *, start: str | None = None, training: TrainingConfig | None = None,
) -> Progress:  # fmt: skip
    """Train the model, from the checkpoint if there is one; gives where it ended.

    Args:
        model: on its device.
        tokens: of the rows that are learned, whose ids tell which rows of the embedding can move.
        start: describes the model before its first step, where that may be the result; it is evaluated then.
        training: settings, where units of the loop aren't rows; else those of the run.
    """
    training = training or prepared.config.training
    seen = train_seen_rows(model, tokens.ids, prepared.pad_id, wanted=training.lazy_embeddings)
    copies = train_weight_copies(model, wanted=suits_copies(
        training, device=prepared.device, precision=prepared.setup.precision, moves=prepared.technique.traits.moves
    ))  # fmt: skip
    with StopSignals() as signals, narrator.stage("train"), keep_freed_memory(), seen, copies:
        session = Session(
            model=model,
            optimizer=make_optimizer(model, float(training.learning_rate), training.weight_decay),
            accelerator=accelerator,
            objective=objective,
            config=training,
            learning_rate=float(training.learning_rate),
            epochs=int(training.num_train_epochs),
            seed=prepared.config.seed,
            store=saved.store,
            signals=signals,
            memory=MemoryGuard(prepared.device, training.check_memory),
            halves=plan_halves(model, objective, prepared.device),
            evaluates_start=start is not None,
            callbacks=make_listeners(prepared.folder, training, narrator),
        )
        check_evaluation_keeps_gradient(session)
        if saved.checkpoint:
            resume_from(session, saved.checkpoint)
            narrator.say(f"going on after step {session.progress.step} of {session.total_steps}")
        try:
            fit(session)
        finally:
            notify(session.callbacks, "close")
    if session.progress.best_step == 0:
        narrator.note(
            f"none of the {session.progress.step} steps was better on the validation rows than the start, so the result"
            f" is the start: {start}"
        )
    return session.progress
