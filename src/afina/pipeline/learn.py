"""The second stage: a model that has learned by its technique, from a solved head or by the training loop."""

from __future__ import annotations

from dataclasses import replace

from afina.models.heads import find_head, scale_head
from afina.models.load import LoadedModel
from afina.pipeline.far_targets import hold_far_targets
from afina.pipeline.learned import Learned
from afina.pipeline.listeners import describe_incidents
from afina.pipeline.logits import compute_part_logits
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import Prepared
from afina.pipeline.resuming import find_saved
from afina.pipeline.settled_head import settle_head
from afina.pipeline.solving import install_probe, probe_features, start_head
from afina.pipeline.stepping import take_steps
from afina.pipeline.tagging.solving import get_part, learn_word_head, start_word_head
from afina.tasks.base import TaskState
from afina.tasks.token_classification import TokenClassification
from afina.techniques.base import Setup, Technique, describe_parameters
from afina.techniques.feature_extraction import FeatureExtraction
from afina.techniques.lora import choose_target_modules, default_targets
from afina.training.contrastive import ContrastiveRows
from afina.training.objective import LabelledRows, Objective
from afina.training.seed import seed_torch
from afina.training.session import start_accelerator
from afina.training.tagged_words import TaggedWords

# What a model is before its first step, where its head was solved.
SOLVED = "the solved head on the untouched backbone"


def learn(prepared: Prepared, narrator: Narrator) -> Learned:
    """The model after learning by its technique."""
    prepared = hold_far_targets(prepared, narrator)
    seed_torch(prepared.config.seed, "head")
    with narrator.stage("load"):
        loaded = prepared.technique.load(prepared.setup)
    tell_adapted(prepared.technique, prepared.setup, loaded, narrator)
    if isinstance(prepared.technique, FeatureExtraction) and prepared.setup.of_words:
        return learn_word_head(prepared, prepared.technique, loaded, narrator)
    if isinstance(prepared.technique, FeatureExtraction):
        found = probe_features(prepared, prepared.technique, loaded, narrator)
        return install_probe(prepared, prepared.technique, loaded, found, narrator)
    return learn_by_steps(prepared, loaded, narrator)


def tell_adapted(technique: Technique, setup: Setup, loaded: LoadedModel, narrator: Narrator) -> None:
    """Say which layers get an adapter, where that was left open."""
    if technique.traits.moves == "adapter" and setup.config.lora.target_modules == "auto":
        narrator.explain(choose_target_modules(loaded, default_targets(setup)))


def learn_by_steps(prepared: Prepared, loaded: LoadedModel, narrator: Narrator) -> Learned:
    """The training loop, from the newest checkpoint if there is one."""
    training = prepared.config.training
    saved = find_saved(prepared.folder, training, narrator)
    has_bias = find_head(loaded.model).bias is not None
    task_state = prepared.task.learn_from(prepared.parts["train"].labels, training.class_weight, has_bias)
    is_solved_later = training.objective == "contrastive"
    if training.head_init == "probe" and saved.checkpoint is None and not is_solved_later:
        (start_word_head if prepared.setup.of_words else start_head)(prepared, loaded, task_state, narrator)
    seed_torch(prepared.config.seed, "adapter")
    model = prepared.technique.prepare(loaded, prepared.setup).to(prepared.device)
    parameters = describe_parameters(model)
    narrator.say(parameters)
    objective = make_objective(prepared, task_state)
    accelerator = start_accelerator(prepared.device, prepared.setup.precision)
    progress = take_steps(
        prepared, model, objective, accelerator, prepared.parts["train"].tokens, saved, narrator,
        start=SOLVED if training.head_init == "probe" else None,
    )  # fmt: skip
    model.eval()
    with narrator.stage("evaluate"):
        scale_head(find_head(model), task_state.target_scale, task_state.target_mean)
        task_state = replace(task_state, target_mean=0.0, target_scale=1.0)
        logits = {"validation": compute_part_logits(prepared, model, prepared.parts["validation"])}
        parts = settle_head(prepared, objective, model, accelerator, logits, narrator)
        if "test" in prepared.parts:
            logits["test"] = compute_part_logits(prepared, model, prepared.parts["test"])
    incidents = describe_incidents(progress, narrator)
    return Learned(model, task_state, logits, parameters, parts, kept_step=progress.best_step, incidents=incidents)


def make_objective(prepared: Prepared, task_state: TaskState) -> Objective:
    """What the loop minimises."""
    parts, tokens_at_once = prepared.parts, int(prepared.config.evaluation.eval_tokens_per_batch)
    if isinstance(prepared.task, TokenClassification):
        return TaggedWords(
            prepared.task, task_state, get_part(prepared, "train"), get_part(prepared, "validation"), prepared.pad_id,
            tokens_at_once,
        )  # fmt: skip
    labelled = LabelledRows(
        prepared.task, task_state, parts["train"], parts["validation"], prepared.pad_id, tokens_at_once
    )
    return ContrastiveRows(labelled) if prepared.config.training.objective == "contrastive" else labelled
