"""The head solved on frozen features: a technique of its own, and the start of those that move more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from afina.config.reason import Reason
from afina.data.encoded import EncodedPart
from afina.errors import ConfigError
from afina.models import probe
from afina.models.features import list_poolings
from afina.models.heads import PooledClassifier, find_head, set_head
from afina.models.load import LoadedModel
from afina.pipeline.features import compute_features
from afina.pipeline.learned import Learned
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import Prepared
from afina.tasks.base import Floats, TaskState
from afina.techniques.base import describe_parameters
from afina.techniques.feature_extraction import FeatureExtraction

# Up to so many training rows every pooling is computed for all of them.
ROWS_OF_ALL_POOLINGS = 20_000
WHY_BOTH = (
    "nothing is left for the validation rows to choose, so the head is solved again with them; their scores are older"
)


@dataclass(frozen=True)
class Probe:
    """A head solved on the training part, and what it was solved on."""

    solution: probe.Solution
    features: Mapping[str, Floats]
    """Of the chosen pooling, shape (N, H), by part."""
    state: TaskState
    has_bias: bool


def probe_features(prepared: Prepared, technique: FeatureExtraction, loaded: LoadedModel, narrator: Narrator) -> Probe:
    """Features of all parts in one pass, and the head solved on those of the training part."""
    technique.prepare(loaded, prepared.setup)
    biasless = find_biasless(loaded)
    task_state = prepared.task.learn_from(prepared.parts["train"].labels, prepared.config.training.class_weight, True)
    problem = pose_problem(prepared, ("train",), task_state)
    poolings = choose_poolings(prepared, loaded, problem, biasless, narrator)
    features = compute_features(prepared, loaded, prepared.parts.values(), poolings, narrator)
    with narrator.stage("solve"):
        solution = probe.solve(features["train"], problem, biasless)
    for reason in solution.reasons:
        if len(poolings) > 1 or reason.setting != "features.pooling":  # else it was given, or chosen before
            narrator.explain(reason)
    pooled = {name: arrays[solution.pooling] for name, arrays in features.items()}
    return Probe(solution, pooled, task_state, solution.pooling not in biasless)


def install_probe(
    prepared: Prepared, technique: FeatureExtraction, loaded: LoadedModel, found: Probe, narrator: Narrator
) -> Learned:
    """The result of feature extraction: the head, solved again with the validation rows where those were cut from the
    training part, on its backbone.
    """
    solution, head = found.solution, found.solution.head
    logits = {"validation": head.logits(found.features["validation"])}
    parts: tuple[str, ...] = ("train",)
    if may_learn_from_validation(prepared):
        parts = ("train", "validation")
        problem = pose_problem(prepared, parts, found.state)
        with narrator.stage("solve"):
            joined_NH = np.concatenate([found.features[name] for name in parts])
            head = probe.fit_head(joined_NH, problem, solution.inverse_strength, found.has_bias)
        narrator.explain(Reason("rows of the head", " + ".join(parts), WHY_BOTH))
    if prepared.scored == "test":
        logits["test"] = head.logits(found.features["test"])
    model = technique.install(loaded.model, head, solution.pooling)
    parameters = describe_parameters(model)
    narrator.say(parameters)
    task_state = replace(found.state, target_mean=0.0, target_scale=1.0)  # solved in the units of the data
    return Learned(model, task_state, logits, parameters, parts)


def may_learn_from_validation(prepared: Prepared) -> bool:
    """Whether a head may be solved with the validation rows once they have nothing left to choose: where they were cut
    from the training part, and aren't what the result is judged by."""
    parts = prepared.examples.parts
    return parts["validation"].table is parts["train"].table and prepared.scored == "test"


def choose_poolings(
    prepared: Prepared, loaded: LoadedModel, problem: probe.HeadProblem, biasless: frozenset[str], narrator: Narrator
) -> tuple[str, ...]:
    """The poolings to compute for all rows: the one that was asked for, or those to choose among.

    Where there are many rows, a sample of them chooses first, so that one array is held in memory and not three.
    """
    wanted, poolings = prepared.config.features.pooling, list_poolings(*describe_type(prepared))
    if poolings == ("own",) and wanted not in ("auto", "own"):
        raise ConfigError(
            f"models of the type {prepared.facts.model_type} run their backbone in a way of their own before a head",
            found=f"features.pooling={wanted}", expected="own, the architecture's",
            remedy="leave features.pooling out, or --technique full",
        )  # fmt: skip
    if wanted != "auto":
        return (wanted,)
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


def describe_type(prepared: Prepared) -> tuple[str, str]:
    """What decides which poolings there are."""
    return prepared.facts.architecture, prepared.facts.model_type


def find_biasless(loaded: LoadedModel) -> frozenset[str]:
    """The poolings whose layer has no bias: the own one of most decoders."""
    return frozenset() if find_head(loaded.model).bias is not None else frozenset({"own"})


def pose_problem(prepared: Prepared, parts: tuple[str, ...], task_state: TaskState) -> probe.HeadProblem:
    """Some parts as a problem for the solver, targets as they are."""
    labels = np.concatenate([prepared.parts[name].labels for name in parts])
    outputs = prepared.task.head_shape().num_labels
    kind = prepared.task.labels.kind
    folds = min(prepared.config.features.folds, max(2, len(labels) // 2))
    return probe.HeadProblem(kind, labels, outputs, task_state.class_weights, prepared.config.seed, folds)


def start_head(prepared: Prepared, loaded: LoadedModel, task_state: TaskState, narrator: Narrator) -> None:
    """Set the new head to the solution on frozen features, in the units that training computes in.

    The other poolings cost next to nothing in the same pass, and in the cache they serve feature extraction.
    """
    train = prepared.parts["train"]
    pooling = loaded.model.pooling if isinstance(loaded.model, PooledClassifier) else "own"
    is_cheap = pooling == "own" and len(train) <= ROWS_OF_ALL_POOLINGS
    poolings = list_poolings(*describe_type(prepared)) if is_cheap else (pooling,)
    pooled_NH = compute_features(prepared, loaded, [train], poolings, narrator)["train"][pooling]
    problem = pose_problem(prepared, ("train",), task_state)
    if problem.kind == "regression":
        problem = replace(problem, labels=(problem.labels - task_state.target_mean) / task_state.target_scale)
    with narrator.stage("solve"):
        solution = probe.solve({pooling: pooled_NH}, problem, find_biasless(loaded))
    set_head(find_head(loaded.model), solution.head)
    chosen = solution.reasons[-1]
    read = "the architecture's own pooling" if pooling == "own" else f"{pooling} pooling"
    because = f"a head solved on {read}, C {chosen.value}: {chosen.reason}"
    narrator.explain(Reason("training.head_init", "probe", because))
