"""What held-out rows say of a model: scores, intervals, baselines, errors, and a line for each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from afina.advice.machine import find_cpu_name
from afina.data.cache import locate_cache
from afina.data.tagged_rows import TaggedPart
from afina.evaluation.baselines import Baseline, score_baselines
from afina.evaluation.linear import fit_linear
from afina.evaluation.linear_cache import LinearCache
from afina.evaluation.prediction import Kind
from afina.metrics.paired import bound_gains
from afina.metrics.row_losses import cell_losses, class_losses
from afina.pipeline.learned import Learned
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import Prepared
from afina.pipeline.tagging.scoring import iterate_tagged_row_scores, measure_tag_baselines, predict_part
from afina.runs.predictions import write_predictions
from afina.runs.row_scores import hash_content, write_row_scores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afina.tasks.base import Labels

LONGEST_ERROR_TEXT = 600


def score_run(prepared: Prepared, learned: Learned, narrator: Narrator) -> dict[str, Any]:
    """What the report says of held-out rows: `scored`, `metrics`, `intervals`, `baselines`, details and `errors`.

    `learned.state` must be tuned already.
    """
    with narrator.stage("evaluate"):
        scores = score_parts(prepared, learned)
    with narrator.stage("baselines"):
        baselines = describe_baselines(prepared, learned) if prepared.config.evaluation.baselines else {}
    return {"scored": prepared.scored, **scores, "baselines": baselines, "errors": list_errors(prepared, learned)}


def score_parts(prepared: Prepared, learned: Learned) -> dict[str, Any]:
    """`metrics` of every held-out part; `intervals` and details of the one that is reported."""
    task, evaluation = prepared.task, prepared.config.evaluation
    metrics: dict[str, float] = {}
    for name, logits_NC in learned.logits.items():
        scores = task.score(logits_NC, prepared.parts[name].labels, learned.state)
        metrics.update({f"{name}/{key}": value for key, value in scores.items()})
    scored, labels = prepared.scored, prepared.parts[prepared.scored].labels
    intervals = {}
    if evaluation.bootstrap_resamples:
        found = task.intervals(
            learned.logits[scored], labels, learned.state, evaluation.bootstrap_resamples, prepared.config.seed
        )
        intervals = {f"{scored}/{key}": list(bounds) for key, bounds in found.items()}
    return {
        "metrics": metrics,
        "intervals": intervals,
        **task.describe(learned.logits[scored], labels, learned.state),
    }


def describe_baselines(prepared: Prepared, learned: Learned) -> dict[str, Any]:
    """The plain baselines as the report has them, each with the interval of the model's gain over it."""
    task, scored, evaluation = prepared.task, prepared.scored, prepared.config.evaluation
    ours = task.outcomes(learned.logits[scored], prepared.parts[scored].labels, learned.state)
    baselines = measure_baselines(prepared, learned.parts)
    judged = {baseline.name: baseline.outcomes for baseline in baselines if baseline.outcomes is not None}
    bounds = bound_gains(
        ours, list(judged.values()), task.primary_metric, evaluation.bootstrap_resamples, prepared.config.seed
    )
    gains = {name: {task.primary_metric: each} for name, each in zip(judged, bounds, strict=True) if each}
    return {baseline.name: baseline.describe(scored, gains.get(baseline.name)) for baseline in baselines}


def measure_baselines(prepared: Prepared, learned_from: Sequence[str]) -> list[Baseline]:
    """The plain baselines, trained on the rows that the model learned from and scored on the same held-out rows."""
    if prepared.setup.of_words:
        return measure_tag_baselines(prepared, learned_from)
    parts, scored = prepared.examples.parts, prepared.examples.parts[prepared.scored]
    texts = [text for name in learned_from for text in parts[name].joined_texts()]
    labels = np.concatenate([parts[name].labels for name in learned_from])
    kind, evaluation = cast(Kind, prepared.examples.labels.kind), prepared.config.evaluation
    cache = LinearCache(locate_cache(), {"processor": find_cpu_name()})
    return score_baselines(
        kind, texts, labels, scored.joined_texts(), scored.labels,
        prepared.examples.labels.names, evaluation.bootstrap_resamples, prepared.config.seed,
        cache.fit if evaluation.keep_baselines else fit_linear,
    )  # fmt: skip


def list_errors(prepared: Prepared, learned: Learned) -> list[dict[str, Any]]:
    """The worst rows of the reported part with their texts."""
    scored = prepared.parts[prepared.scored]
    worst = prepared.task.errors(
        learned.logits[scored.name], scored.labels, learned.state, prepared.config.evaluation.hardest_errors
    )
    texts = pick_texts(prepared, [row["index"] for row in worst])
    return [
        {"row": int(scored.row_numbers[row.pop("index")]), "text": text[:LONGEST_ERROR_TEXT], **row}
        for row, text in zip(worst, texts, strict=True)
    ]


def pick_texts(prepared: Prepared, indices: Sequence[int]) -> list[str]:
    """The texts of some rows of the reported part."""
    part = prepared.examples.parts[prepared.scored]
    if isinstance(part, TaggedPart):
        return replace(part, indices=part.indices[np.asarray(indices, np.int64)]).joined_texts()
    names = prepared.examples.columns.text_names
    rows = part.table.take(part.indices[np.asarray(indices, np.int64)], names)
    return ["\n".join(str(value) for value in texts) for texts in zip(*(rows[name] for name in names), strict=True)]


def write_rows(prepared: Prepared, learned: Learned) -> None:
    """predictions.jsonl (the reported part) and row_scores.jsonl (every held-out part)."""
    folder, scored = prepared.folder, prepared.parts[prepared.scored]
    if prepared.setup.of_words:
        predictions: Sequence[dict[str, Any]] = predict_part(prepared, learned, scored.name)
    else:
        predictions = prepared.task.predict(learned.logits[scored.name], learned.state)
    write_predictions(folder, scored.row_numbers, predictions)
    write_row_scores(folder, (line for name in learned.logits for line in iterate_row_scores(prepared, learned, name)))


def iterate_row_scores(prepared: Prepared, learned: Learned, name: str) -> Iterator[dict[str, Any]]:
    """For each row of a part: its number, a key of its content, its label, what is predicted, and its loss."""
    if prepared.setup.of_words:
        yield from iterate_tagged_row_scores(prepared, learned, name)
        return
    part, logits_NC = prepared.parts[name], learned.logits[name]
    predictions = prepared.task.predict(logits_NC, learned.state)
    losses = find_losses(prepared, predictions, part.labels)
    texts = (text for batch in prepared.examples.parts[name].texts() for text in batch)
    labels = name_labels(prepared, part.labels)
    for number, text, label, prediction, loss in zip(part.row_numbers, texts, labels, predictions, losses, strict=True):
        line = {"part": name, "row": int(number), "key": hash_content([text, label]), "label": label}
        yield {**line, "prediction": prediction["prediction"], **({} if loss is None else {"loss": loss})}


def find_losses(prepared: Prepared, predictions: Sequence[dict[str, Any]], labels: Labels) -> list[float | None]:
    """The loss of each row in nats, as the scores have it; None for numbers, whose error says it already."""
    kind = prepared.task.labels.kind
    if kind == "regression":
        return [None] * len(labels)
    probabilities_NC = np.asarray([list(each["probabilities"].values()) for each in predictions], np.float64)
    losses_N = (class_losses if kind == "multiclass" else cell_losses)(probabilities_NC, labels)
    return [float(loss) for loss in losses_N]


def name_labels(prepared: Prepared, labels: Labels) -> list[Any]:
    """The labels as predictions are written: a name, a list of names, or a number."""
    kind, names = prepared.task.labels.kind, prepared.task.labels.names
    if kind == "regression":
        return [float(value) for value in labels]
    if kind == "multiclass":
        return [names[int(number)] for number in labels]
    return [[names[i] for i in np.flatnonzero(marks_C)] for marks_C in labels]
