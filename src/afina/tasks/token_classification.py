"""A tag for each word: named entities, or plain tags such as parts of speech.

The loss of a word is the cross-entropy of its tag at the word's first token; a mean runs over words, whatever rows they
stand in. Labels are `TagArrays`, logits those of all words of all rows, one after the other.
Letters: N rows, K words of all rows, C tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from afina.data.labels import LabelSpace
from afina.metrics.paired import ScoredRows
from afina.metrics.primary import PRIMARY_METRICS
from afina.metrics.probabilities import softmax
from afina.metrics.row_losses import class_losses
from afina.metrics.tags import RowCounts, Tagging, count_rows, find_entities
from afina.tasks.base import Floats, HeadShape, Labels, TaskState

if TYPE_CHECKING:
    import torch

    from afina.data.tags import TagArrays

ENTITIES_SHOWN = 12


class TokenClassification:
    """See `Task`."""

    name = "token-classification"

    def __init__(self, labels: LabelSpace) -> None:
        self.labels = labels
        self.primary_metric = PRIMARY_METRICS[labels.kind]

    @cached_property
    def tagging(self) -> Tagging:
        """What the tags mean."""
        return Tagging(self.labels.names)

    def head_shape(self) -> HeadShape:
        return HeadShape(len(self.labels.names), "single_label_classification", self.labels.names)

    def learn_from(self, labels: Labels, class_weight: str, head_has_bias: bool) -> TaskState:
        if class_weight == "none":
            return TaskState()
        counts_C = np.bincount(labels.tags, minlength=len(self.labels.names))  # type: ignore[attr-defined]
        weights_C = counts_C.sum() / (len(counts_C) * np.maximum(counts_C, 1))
        return TaskState(class_weights=tuple(round(float(weight), 6) for weight in weights_C))

    def losses(self, logits_BC: torch.Tensor, labels: torch.Tensor, state: TaskState) -> torch.Tensor:
        import torch
        from torch.nn import functional

        weights_C = torch.tensor(state.class_weights, device=logits_BC.device) if state.class_weights else None
        return functional.cross_entropy(logits_BC.float(), labels, weight=weights_C, reduction="none")

    def row_weights(self, labels: Labels, state: TaskState) -> Floats:
        if not state.class_weights:
            return np.ones(len(labels), np.float32)
        return np.asarray(state.class_weights, np.float32)[labels]

    def rescale(self, logits_NC: Floats, state: TaskState) -> Floats:
        return logits_NC

    def probabilities(self, logits_KC: Floats) -> Floats:
        """Softmax over tags."""
        return softmax(logits_KC).astype(np.float32)

    def count(self, logits_KC: Floats, labels: TagArrays) -> RowCounts:
        """What is right in each row."""
        return count_rows(self.tagging, logits_KC.argmax(axis=1), labels.tags, labels.offsets)

    def score(self, logits_NC: Floats, labels: Labels, state: TaskState) -> dict[str, float]:
        tags: TagArrays = labels  # type: ignore[assignment]
        scores = self.count(logits_NC, tags).summarise()
        return {**scores, "loss": float(self.word_losses(logits_NC, tags).mean())}

    def word_losses(self, logits_KC: Floats, labels: TagArrays) -> Any:
        """Negative log likelihood of each word's tag in nats (K,)."""
        return class_losses(self.probabilities(logits_KC).astype(np.float64), labels.tags)

    def row_losses(self, logits_KC: Floats, labels: TagArrays) -> Any:
        """The sum over each row's words (N,)."""
        return np.add.reduceat(self.word_losses(logits_KC, labels), labels.offsets[:-1])

    def rank(self, scores: Mapping[str, float]) -> float:
        return scores[self.primary_metric]

    def intervals(
        self, logits_NC: Floats, labels: Labels, state: TaskState, resamples: int, seed: int
    ) -> dict[str, tuple[float, float]]:
        return self.count(logits_NC, labels).bootstrap(resamples, seed)  # type: ignore[arg-type]

    def outcomes(self, logits_NC: Floats, labels: Labels, state: TaskState) -> ScoredRows:
        return ScoredRows(self.labels.kind, tags=self.count(logits_NC, labels))  # type: ignore[arg-type]

    def tune(self, logits_NC: Floats, labels: Labels, state: TaskState) -> TaskState:
        return state

    def describe(self, logits_NC: Floats, labels: Labels, state: TaskState) -> dict[str, Any]:
        return {"per_class": self.count(logits_NC, labels).tabulate(self.tagging.types)}  # type: ignore[arg-type]

    def predict(self, logits_NC: Floats, state: TaskState) -> Sequence[dict[str, Any]]:
        """One mapping for all words as one row; `predict_rows` cuts them into rows."""
        return self.predict_rows(logits_NC, np.asarray([0, len(logits_NC)], np.int64))

    def predict_rows(self, logits_KC: Floats, offsets: Any) -> list[dict[str, Any]]:
        """For each row its `prediction` (a tag for each word), the `probabilities` of these, and its `entities`."""
        tags_K = logits_KC.argmax(axis=1)
        sure_K = self.probabilities(logits_KC).max(axis=1)
        rows: list[dict[str, Any]] = [
            {
                "prediction": [self.labels.names[tag] for tag in tags_K[start:end]],
                "probabilities": [round(float(p), 6) for p in sure_K[start:end]],
                "entities": [],
            }
            for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        ]
        if self.tagging.is_plain:
            return [{name: row[name] for name in ("prediction", "probabilities")} for row in rows]
        found = find_entities(self.tagging, tags_K, offsets)
        places = np.searchsorted(offsets, found.first, side="right") - 1
        for row, first, last, kind in zip(places, found.first, found.last, found.type, strict=True):
            start = int(offsets[row])
            rows[row]["entities"].append({
                "type": self.tagging.types[kind], "first_word": int(first) - start, "last_word": int(last) - start,
                "probability": round(float(sure_K[first : last + 1].prod()), 6),
            })  # fmt: skip
        return rows

    def errors(self, logits_NC: Floats, labels: Labels, state: TaskState, most: int) -> list[dict[str, Any]]:
        """The rows with the most words wrong; `label` and `predicted` list what the tags say in words' places."""
        tags: TagArrays = labels  # type: ignore[assignment]
        counts = self.count(logits_NC, tags)
        missed_N = counts.words_N - counts.right_N
        worst = np.argsort(-missed_N, kind="stable")[:most]
        worst = worst[missed_N[worst] > 0]
        sure_K, given_K = self.probabilities(logits_NC).max(axis=1), logits_NC.argmax(axis=1)
        rows = []
        for row in worst.tolist():
            span = slice(int(tags.offsets[row]), int(tags.offsets[row + 1]))
            is_wrong = given_K[span] != tags.tags[span]
            label, predicted = (self.list_tags(each[span]) for each in (tags.tags, given_K))
            rows.append({"index": row, "label": label, "predicted": predicted,
                         "confidence": float(sure_K[span][is_wrong].max())})  # fmt: skip
        return rows

    def list_tags(self, tags: Any) -> str:
        """The tags that say something, each with the place of its word: `4 B-person, 5 I-person`."""
        named = [(place, self.labels.names[int(tag)]) for place, tag in enumerate(tags, 1)]
        told = [f"{place} {name}" for place, name in named if name != "O"]
        return ", ".join(told[:ENTITIES_SHOWN]) + (", ..." if len(told) > ENTITIES_SHOWN else "") or "-"
