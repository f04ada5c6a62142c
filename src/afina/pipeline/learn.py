"""The second stage: the head solved on frozen features, and for the techniques that move more, the training loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from afina.config.reason import Reason
from afina.data.encoded import EncodedPart
from afina.models.feature_cache import FeatureCache, locate_cache
from afina.models.features import extract_features, list_poolings, number_distinct_rows
from afina.models.heads import find_head, scale_head, set_head
from afina.models.load import LoadedModel
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import Prepared
from afina.tasks.base import Fit, Floats
from afina.techniques import probe
from afina.techniques.base import describe_parameters
from afina.techniques.feature_extraction import FeatureExtraction
from afina.training.allocator import keep_freed_memory
from afina.training.callbacks.history import HistoryWriter
from afina.training.checkpoint import CheckpointStore
from afina.training.inference import predict_logits
from afina.training.loop import UNMOVED, Session, fit, resume_from, start_accelerator
from afina.training.objective import LabelledRows
from afina.training.optim import make_optimizer
from afina.training.proofs import check_evaluation_keeps_gradient
from afina.training.seed import seed_torch
from afina.training.signals import StopSignals

if TYPE_CHECKING:
    from collections.abc import Iterable


# Up to so many training rows every pooling is computed for all of them.
ROWS_OF_ALL_POOLINGS = 20_000
WHY_BOTH = (
    "nothing is left for the validation rows to choose, so the head is solved again with them; their scores are older"
)


@dataclass
class Learned:
    """A model that gives logits in the units of the data."""

    model: nn.Module
    fit: Fit
    logits: dict[str, Floats]
    """Of the validation and the test part."""
    parameters: str
    """How many parameters moved, in words."""
    parts: tuple[str, ...] = ("train",)
    """The parts whose rows were learned from."""
    kept_step: int | None = None
    """The optimizer step whose weights were kept; None where no steps are taken."""


def learn(prepared: Prepared, narrator: Narrator) -> Learned:
    """The model after learning by its technique."""
    seed_torch(prepared.config.seed, "head")
    with narrator.stage("load"):
        loaded = prepared.technique.load(prepared.setup)
    if isinstance(prepared.technique, FeatureExtraction):
        return learn_by_solving(prepared, prepared.technique, loaded, narrator)
    return learn_by_steps(prepared, loaded, narrator)


def learn_by_solving(
    prepared: Prepared, technique: FeatureExtraction, loaded: LoadedModel, narrator: Narrator
) -> Learned:
    """Features of all parts in one pass, the head solved on those of the training part, and of the validation part
    where that was cut from it.
    """
    technique.prepare(loaded, prepared.setup)
    biasless = find_biasless(loaded)
    task_fit = prepared.task.learn_from(prepared.parts["train"].labels, prepared.config.training.class_weight, True)
    problem = pose_problem(prepared, ("train",), task_fit)
    poolings = choose_poolings(prepared, loaded, problem, biasless, narrator)
    features = compute_features(prepared, loaded, prepared.parts.values(), poolings, narrator)
    with narrator.stage("solve"):
        solution = probe.solve(features["train"], problem, biasless)
    for reason in solution.reasons:
        if len(poolings) > 1 or reason.setting != "features.pooling":  # else it was given, or chosen before
            narrator.explain(reason)
    pooled = {name: arrays[solution.pooling] for name, arrays in features.items()}
    logits = {"validation": solution.head.logits(pooled["validation"])}
    head = solution.head
    parts: tuple[str, ...] = ("train",)
    if prepared.examples.parts["validation"].table is prepared.examples.parts["train"].table:
        parts = ("train", "validation")
        problem = pose_problem(prepared, parts, task_fit)
        with narrator.stage("solve"):
            joined_NH = np.concatenate([pooled[name] for name in parts])
            head = probe.fit_head(joined_NH, problem, solution.strength, solution.pooling not in biasless)
        narrator.explain(Reason("features.rows", " + ".join(parts), WHY_BOTH))
    logits["test"] = head.logits(pooled["test"])
    model = technique.install(loaded.model, head, solution.pooling)
    parameters = describe_parameters(model)
    narrator.say(parameters)
    task_fit = replace(task_fit, target_mean=0.0, target_scale=1.0)  # solved in the units of the data
    return Learned(model, task_fit, logits, parameters, parts)


def choose_poolings(
    prepared: Prepared, loaded: LoadedModel, problem: probe.Problem, biasless: frozenset[str], narrator: Narrator
) -> tuple[str, ...]:
    """The poolings to compute for all rows: the one that was asked for, or those to choose among.

    Where there are many rows, a sample of them chooses first, so that one array is held in memory and not three.
    """
    if prepared.config.features.pooling != "auto":
        return (prepared.config.features.pooling,)
    poolings = list_poolings(prepared.facts.architecture)
    train = prepared.parts["train"]
    if len(train) <= ROWS_OF_ALL_POOLINGS:
        return poolings
    rows = probe.choose_sample(len(train), problem.seed)
    sample = EncodedPart("a sample of train", train.tokens.take(rows), train.labels[rows], train.row_numbers[rows])
    features = compute_features(prepared, loaded, [sample], poolings, narrator)
    with narrator.stage("solve"):
        pooling, reason = probe.choose_pooling(features[sample.name], problem.at(rows), biasless)
    narrator.explain(reason)
    return (pooling,)


def find_biasless(loaded: LoadedModel) -> frozenset[str]:
    """The poolings whose layer has no bias: the own one of most decoders."""
    return frozenset() if find_head(loaded.model)[1].bias is not None else frozenset({"own"})


def pose_problem(prepared: Prepared, parts: tuple[str, ...], task_fit: Fit) -> probe.Problem:
    """Some parts as a problem for the solver, targets as they are."""
    labels = np.concatenate([prepared.parts[name].labels for name in parts])
    outputs = prepared.task.head_shape().num_labels
    kind = prepared.task.labels.kind
    folds = min(prepared.config.features.folds, max(2, len(labels) // 2))
    return probe.Problem(kind, labels, outputs, task_fit.class_weights, prepared.config.seed, folds)


def compute_features(
    prepared: Prepared, loaded: LoadedModel, parts: Iterable[EncodedPart], poolings: tuple[str, ...], narrator: Narrator
) -> dict[str, dict[str, Floats]]:
    """Features of the parts' rows by part and pooling; each distinct row is computed once, or found in the cache."""
    cache = make_cache(prepared, loaded, poolings)
    found: dict[str, dict[str, Floats]] = {}
    for part in parts:
        with narrator.stage("features") as advance:
            rows, places, keys = number_distinct_rows(part.tokens)
            known, known_D = cache.find(keys, poolings) if cache else ({}, np.zeros(len(rows), bool))
            new = np.flatnonzero(~known_D)
            if len(new):
                done = 0

                def tell(count: int, total: int = len(new), advance: Any = advance) -> None:
                    nonlocal done
                    done += count
                    advance(done, total)

                fresh = extract_features(
                    loaded.model, part.tokens, rows[new], poolings, pad_id=prepared.pad_id,
                    tokens_per_batch=int(prepared.config.evaluation.eval_tokens_per_batch), device=prepared.device,
                    precision=prepared.setup.precision, on_batch=tell,
                )  # fmt: skip
                if cache:
                    cache.add(keys[new], fresh)
                for name, array in fresh.items():
                    known.setdefault(name, np.empty((len(rows), array.shape[1]), np.float32))[new] = array
            narrator.say(
                f"features of {part.name}: {len(part):,} rows, {len(rows):,} distinct,"
                f" {len(rows) - len(new):,} from the cache"
            )
            found[part.name] = {name: array[places] for name, array in known.items()}
    return found


def make_cache(prepared: Prepared, loaded: LoadedModel, poolings: tuple[str, ...]) -> FeatureCache | None:
    """The cache of this model's features, unless it is switched off."""
    from afina.models.fingerprint import hash_model

    if not prepared.config.features.cache:
        return None
    made_of = {
        "model": hash_model(prepared.setup.base),
        "new": hash_new_modules(loaded),
        "poolings": poolings,
        "precision": prepared.setup.precision,
        "storage": prepared.technique.name == "qlora" and prepared.config.quantization.model_dump(),
        "max_seq_length": prepared.config.model.max_seq_length,
    }
    return FeatureCache(locate_cache(), made_of)


def hash_new_modules(loaded: LoadedModel) -> str:
    """A hash of the random weights that features pass through: a pooler or dense layer that the folder didn't hold."""
    import hashlib

    head_path, _ = find_head(loaded.model)
    digest = hashlib.sha256()
    for name in loaded.new_modules:
        for key, tensor in sorted(loaded.model.get_submodule(name).state_dict().items()):
            if not f"{name}.{key}".startswith(f"{head_path}."):
                digest.update(key.encode() + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def learn_by_steps(prepared: Prepared, loaded: LoadedModel, narrator: Narrator) -> Learned:
    """The training loop, from the newest checkpoint if there is one."""
    config = prepared.config
    store = CheckpointStore(prepared.folder.checkpoints, config.training.save_total_limit)
    checkpoint, damaged = store.find_newest()
    for folder in damaged:
        narrator.note(f"the checkpoint {folder.name} is damaged and was passed over")
    has_bias = find_head(loaded.model)[1].bias is not None
    task_fit = prepared.task.learn_from(prepared.parts["train"].labels, config.training.class_weight, has_bias)
    if config.training.head_init == "probe" and checkpoint is None:
        start_head(prepared, loaded, task_fit, narrator)
    seed_torch(config.seed, "adapter")
    model = prepared.technique.prepare(loaded, prepared.setup).to(prepared.device)
    parameters = describe_parameters(model)
    narrator.say(parameters)
    with StopSignals() as signals, narrator.stage("train"), keep_freed_memory():
        session = open_session(prepared, model, task_fit, store, signals, narrator)
        check_evaluation_keeps_gradient(session)
        if checkpoint:
            resume_from(session, checkpoint)
            narrator.say(f"going on after step {session.progress.step} of {session.total_steps}")
        try:
            fit(session)
        finally:
            for callback in session.callbacks:
                getattr(callback, "close", lambda: None)()
    model.eval()
    with narrator.stage("evaluate"):
        scale_head(find_head(model)[1], task_fit.target_scale, task_fit.target_mean)
        task_fit = replace(task_fit, target_mean=0.0, target_scale=1.0)
        logits = {name: compute_logits(prepared, model, prepared.parts[name]) for name in ("validation", "test")}
    kept_step = session.progress.best_step
    if kept_step == 0:
        narrator.note(UNMOVED.format(steps=session.progress.step, result="the solved head on the untouched backbone"))
    return Learned(model, task_fit, logits, parameters, kept_step=kept_step)


def start_head(prepared: Prepared, loaded: LoadedModel, task_fit: Fit, narrator: Narrator) -> None:
    """Set the new head to the solution on frozen features, in the units that training computes in."""
    features = compute_features(prepared, loaded, [prepared.parts["train"]], ("own",), narrator)
    problem = pose_problem(prepared, ("train",), task_fit)
    if problem.kind == "regression":
        problem = replace(problem, labels=(problem.labels - task_fit.target_mean) / task_fit.target_scale)
    with narrator.stage("solve"):
        solution = probe.solve(features["train"], problem, find_biasless(loaded))
    set_head(find_head(loaded.model)[1], solution.head)
    narrator.explain(solution.reasons[-1])


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
    return Session(
        model=model,
        optimizer=make_optimizer(model, learning_rate, config.training.weight_decay),
        accelerator=start_accelerator(prepared.device, prepared.setup.precision),
        objective=LabelledRows(
            prepared.task,
            task_fit,
            prepared.parts["train"],
            prepared.parts["validation"],
            prepared.pad_id,
            int(config.evaluation.eval_tokens_per_batch),
        ),
        config=config.training,
        learning_rate=learning_rate,
        epochs=int(config.training.num_train_epochs),
        seed=config.seed,
        store=store,
        signals=signals,
        callbacks=(HistoryWriter(prepared.folder.history, config.training.logging_steps), *narrator.callbacks()),
    )


def compute_logits(prepared: Prepared, model: nn.Module, part: EncodedPart) -> Floats:
    """Logits of a part by the model as it stands."""
    return predict_logits(
        model, part.tokens, pad_id=prepared.pad_id, device=prepared.device, precision=prepared.setup.precision,
        tokens_per_batch=int(prepared.config.evaluation.eval_tokens_per_batch),
    )  # fmt: skip
