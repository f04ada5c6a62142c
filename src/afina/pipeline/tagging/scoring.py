"""What held-out rows of tagged words say of a model: baselines, and a line for each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from afina.data.tagged_rows import TaggedPart
from afina.evaluation.baselines import Baseline
from afina.evaluation.tag_baselines import TaggedText, score_tag_baselines
from afina.pipeline.learned import Learned
from afina.pipeline.prepare import Prepared
from afina.pipeline.tagging.solving import get_part
from afina.runs.row_scores import hash_content
from afina.tasks.token_classification import TokenClassification


def get_rows(prepared: Prepared, name: str) -> TaggedPart:
    """A part with its words as they were read."""
    part = prepared.examples.parts[name]
    assert isinstance(part, TaggedPart)
    return part


def get_task(prepared: Prepared) -> TokenClassification:
    """The task, which gives a row more than one label."""
    assert isinstance(prepared.task, TokenClassification)
    return prepared.task


def measure_tag_baselines(prepared: Prepared, learned_from: Sequence[str]) -> list[Baseline]:
    """The plain baselines, trained on the rows that the model learned from and scored on the same held-out rows."""
    evaluation, scored = prepared.config.evaluation, prepared.scored
    return score_tag_baselines(
        get_task(prepared).tagging, [read_text(get_rows(prepared, name)) for name in learned_from],
        read_text(get_rows(prepared, scored)), evaluation.bootstrap_resamples, prepared.config.seed,
    )  # fmt: skip


def read_text(part: TaggedPart) -> TaggedText:
    """The rows of a part as baselines see them."""
    words = (word for batch in part.words() for row in batch for word in row)
    return TaggedText(words, part.tags.tags, part.tags.offsets)


def predict_part(prepared: Prepared, learned: Learned, name: str) -> list[dict[str, Any]]:
    """What is predicted for each row of a part."""
    return get_task(prepared).predict_rows(learned.logits[name], get_part(prepared, name).tags.offsets)


def iterate_tagged_row_scores(prepared: Prepared, learned: Learned, name: str) -> Iterator[dict[str, Any]]:
    """For each row of a part: its number, a key of its content, its tags, what is predicted, and its summed loss."""
    part, task = get_part(prepared, name), get_task(prepared)
    predictions, losses_N = predict_part(prepared, learned, name), task.row_losses(learned.logits[name], part.tags)
    rows = (row for batch in get_rows(prepared, name).tagged_rows() for row in batch)
    for number, row, found, loss in zip(part.row_numbers, rows, predictions, losses_N, strict=True):
        yield {
            "part": name, "row": int(number), "key": hash_content([row.words, row.tags]), "label": row.tags,
            "prediction": found["prediction"], "loss": float(loss),
        }  # fmt: skip
