"""The second stage: a model that has learned by its technique, from a solved head or by the training loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from accelerate import Accelerator
from torch import nn

from afina.config.reason import Reason
from afina.data.encode_words import TaggedTokens
from afina.data.encoded import EncodedPart
from afina.kernels.allocator import keep_freed_memory
from afina.models.heads import find_head, scale_head
from afina.models.load import LoadedModel
from afina.pipeline.learned import Learned
from afina.pipeline.listeners import describe_incidents, make_listeners
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import Prepared
from afina.pipeline.resuming import find_checkpoint, open_store
from afina.pipeline.solving import WHY_BOTH, install_probe, may_learn_from_validation, probe_features, start_head
from afina.pipeline.tagging.solving import get_part, learn_word_head, start_word_head
from afina.tasks.base import Fit, Floats
from afina.tasks.token_classification import TokenClassification
from afina.techniques.base import describe_parameters
from afina.techniques.feature_extraction import FeatureExtraction
from afina.training.checkpoint import CheckpointStore
from afina.training.contrastive import ContrastiveRows
from afina.training.events import notify
from afina.training.halves import plan_halves
from afina.training.inference import predict_logits
from afina.training.loop import UNMOVED, fit
from afina.training.memory_guard import MemoryGuard
from afina.training.objective import LabelledRows, Objective
from afina.training.optim import make_optimizer
from afina.training.proofs import check_evaluation_keeps_gradient
from afina.training.seed import seed_torch
from afina.training.seen_rows import train_seen_rows
from afina.training.session import Session, resume_from, start_accelerator
from afina.training.signals import StopSignals
from afina.training.tagged_words import TaggedWords, predict_words
from afina.training.weight_copies import suits_copies, train_weight_copies

BOTH = ("train", "validation")


def learn(prepared: Prepared, narrator: Narrator) -> Learned:
    """The model after learning by its technique."""
    seed_torch(prepared.config.seed, "head")
    with narrator.stage("load"):
        loaded = prepared.technique.load(prepared.setup)
    if isinstance(prepared.technique, FeatureExtraction) and prepared.setup.of_words:
        return learn_word_head(prepared, prepared.technique, loaded, narrator)
    if isinstance(prepared.technique, FeatureExtraction):
        found = probe_features(prepared, prepared.technique, loaded, narrator)
        return install_probe(prepared, prepared.technique, loaded, found, narrator)
    return learn_by_steps(prepared, loaded, narrator)


def learn_by_steps(prepared: Prepared, loaded: LoadedModel, narrator: Narrator) -> Learned:
    """The training loop, from the newest checkpoint if there is one."""
    config = prepared.config
    store = open_store(prepared.folder, config.training, narrator)
    checkpoint = find_checkpoint(store, narrator)
    has_bias = find_head(loaded.model)[1].bias is not None
    task_fit = prepared.task.learn_from(prepared.parts["train"].labels, config.training.class_weight, has_bias)
    is_solved_later = config.training.objective == "contrastive"
    if config.training.head_init == "probe" and checkpoint is None and not is_solved_later:
        (start_word_head if prepared.setup.of_words else start_head)(prepared, loaded, task_fit, narrator)
    seed_torch(config.seed, "adapter")
    model = prepared.technique.prepare(loaded, prepared.setup).to(prepared.device)
    parameters = describe_parameters(model)
    narrator.say(parameters)
    ids, lazy = prepared.parts["train"].tokens.ids, config.training.lazy_embeddings
    seen = train_seen_rows(model, ids, prepared.pad_id, wanted=lazy)
    copies = train_weight_copies(model, wanted=suits_copies(
        config.training, device=prepared.device, precision=prepared.setup.precision, moves=prepared.technique.moves
    ))  # fmt: skip
    with StopSignals() as signals, narrator.stage("train"), keep_freed_memory(), seen, copies:
        session = open_session(prepared, model, task_fit, store, signals, narrator)
        check_evaluation_keeps_gradient(session)
        if checkpoint:
            resume_from(session, checkpoint)
            narrator.say(f"going on after step {session.progress.step} of {session.total_steps}")
        try:
            fit(session)
        finally:
            notify(session.callbacks, "close")
    model.eval()
    with narrator.stage("evaluate"):
        scale_head(find_head(model)[1], task_fit.target_scale, task_fit.target_mean)
        task_fit = replace(task_fit, target_mean=0.0, target_scale=1.0)
        logits = {"validation": compute_logits(prepared, model, prepared.parts["validation"])}
        parts = solve_again(prepared, session.objective, model, session.accelerator, narrator)
        if "test" in prepared.parts:
            logits["test"] = compute_logits(prepared, model, prepared.parts["test"])
    kept_step = session.progress.best_step
    if kept_step == 0:
        narrator.note(UNMOVED.format(steps=session.progress.step, result="the solved head on the untouched backbone"))
    incidents = describe_incidents(session.progress, narrator)
    return Learned(model, task_fit, logits, parameters, parts, kept_step=kept_step, incidents=incidents)


def solve_again(
    prepared: Prepared, objective: Objective, model: nn.Module, accelerator: Accelerator, narrator: Narrator
) -> tuple[str, ...]:
    """The parts that were learned from: with the validation rows, if the head is solved and may be solved with them."""
    if not isinstance(objective, ContrastiveRows) or not may_learn_from_validation(prepared):
        return ("train",)
    objective.solve_head(model, accelerator, *(prepared.parts[name] for name in BOTH))
    narrator.explain(Reason("training.rows_of_head", " + ".join(BOTH), WHY_BOTH))
    return BOTH


def open_session(
    prepared: Prepared,
    model: nn.Module,
    task_fit: Fit,
    store: CheckpointStore,
    signals: StopSignals,
    narrator: Narrator,
) -> Session:
    """The loop's view of the run."""
    config = prepared.config
    learning_rate = float(config.training.learning_rate)
    objective = make_objective(prepared, task_fit)
    return Session(
        model=model,
        optimizer=make_optimizer(model, learning_rate, config.training.weight_decay),
        accelerator=start_accelerator(prepared.device, prepared.setup.precision),
        objective=objective,
        config=config.training,
        learning_rate=learning_rate,
        epochs=int(config.training.num_train_epochs),
        seed=config.seed,
        store=store,
        signals=signals,
        memory=MemoryGuard(prepared.device, config.training.check_memory),
        halves=plan_halves(model, objective, prepared.device),
        evaluates_start=config.training.head_init == "probe",
        callbacks=make_listeners(prepared.folder, config.training, narrator),
    )


def make_objective(prepared: Prepared, task_fit: Fit) -> Objective:
    """What the loop minimises."""
    parts, tokens_at_once = prepared.parts, int(prepared.config.evaluation.eval_tokens_per_batch)
    if isinstance(prepared.task, TokenClassification):
        return TaggedWords(
            prepared.task, task_fit, get_part(prepared, "train"), get_part(prepared, "validation"), prepared.pad_id,
            tokens_at_once,
        )  # fmt: skip
    labelled = LabelledRows(
        prepared.task, task_fit, parts["train"], parts["validation"], prepared.pad_id, tokens_at_once
    )
    return ContrastiveRows(labelled) if prepared.config.training.objective == "contrastive" else labelled


def compute_logits(prepared: Prepared, model: nn.Module, part: EncodedPart) -> Floats:
    """Logits of a part by the model as it stands: of its rows, or of their words."""
    options: dict[str, Any] = {
        "pad_id": prepared.pad_id, "device": prepared.device, "precision": prepared.setup.precision,
        "tokens_per_batch": int(prepared.config.evaluation.eval_tokens_per_batch),
    }  # fmt: skip
    if isinstance(part, TaggedTokens):
        return predict_words(model, part.words, **options)
    return predict_logits(model, part.tokens, **options)
