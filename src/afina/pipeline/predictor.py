"""A finished run's model in use: predictions for texts and files, scores on new labelled rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from afina.config.run import GENERATION, TAGGING
from afina.data.encode import Texts, encode_texts
from afina.data.examples import Part
from afina.data.labels import LabelSpace
from afina.data.rows import RowTable
from afina.errors import ConfigError, DataError, Problem
from afina.metrics.naming import prefix_bounds, prefix_scores
from afina.models.vocabulary import check_vocabulary, count_vectors
from afina.pipeline.given_texts import check_unicode, list_given, take_texts
from afina.pipeline.restoring import restore_run
from afina.pipeline.source_rows import ROWS_AT_ONCE, iterate_chunks
from afina.runs.folder import open_run
from afina.tasks.base import Floats, TaskState
from afina.tasks.registry import make_task
from afina.training.inference import Inference, predict_logits


class Predictor:
    """The model of a finished run, loaded from its folder.

    Args:
        path: the run's folder.
    """

    def __init__(self, path: Path) -> None:
        self.folder = open_run(path)
        stored = self.folder.read_task()
        if stored["task"] == GENERATION:
            raise ConfigError(
                f"{path} answers prompts and gives no labels", remedy="afina chat, or run.generate(prompts)"
            )
        restored = restore_run(self.folder, stored)
        self.config, self.technique = restored.setup.config, restored.technique
        self.model, self.tokenizer = restored.model, restored.tokenizer
        self.device, self.precision = restored.device, restored.setup.precision
        self.task = make_task(stored["task"], LabelSpace.from_dict(stored["labels"]))
        self.state = TaskState.from_dict(stored["fit"])
        self.columns: dict[str, str | None] = stored["columns"]

    @property
    def inference(self) -> Inference:
        """How rows go through the model."""
        tokens_at_once = int(self.config.evaluation.eval_tokens_per_batch)
        return Inference(int(self.tokenizer.pad_token_id), tokens_at_once, self.device, self.precision)

    @property
    def text_names(self) -> list[str]:
        """Names of the text column, or of the two of a pair."""
        return [name for name in (self.columns["text"], self.columns["text_pair"]) if name]

    def logits(self, texts: Texts) -> Floats:
        """Logits of shape (N, C), in the units of the data."""
        with tempfile.TemporaryDirectory(prefix="afina-") as work:
            tokens = encode_texts(self.tokenizer, [texts], int(self.config.model.max_seq_length), Path(work))
            check_vocabulary(tokens.ids, count_vectors(self.model.config), self.folder.model)
            return predict_logits(self.model, tokens, self.inference)

    def predict(self, given: Any) -> Sequence[dict[str, Any]]:
        """One mapping for each text, with `prediction` and, for classes, `probabilities`.

        Args:
            given: texts, or rows that hold them in the columns the model has learned from.
        """
        texts = take_texts(list_given(given, "predict", "text"), self.text_names)
        if not texts:
            return []
        self.check_texts(texts)
        return [self.restore_labels(row) for row in self.task.predict(self.logits(texts), self.state)]

    def restore_labels(self, row: dict[str, Any]) -> dict[str, Any]:
        """A prediction whose labels are of the type that they have in the data: 1 and not "1"."""
        labels, found = self.task.labels, row["prediction"]
        if labels.values == "text":
            return row
        restored = [labels.restore(name) for name in found] if isinstance(found, list) else labels.restore(found)
        probabilities = {labels.restore(name): value for name, value in row["probabilities"].items()}
        return {**row, "prediction": restored, "probabilities": probabilities}

    def check_texts(self, texts: Sequence[Any]) -> None:
        """Refuse what isn't a text, or a pair where the model was trained on pairs."""
        pairs = len(self.text_names) == 2
        wrong = [
            number for number, text in enumerate(texts, 1) if not (is_pair(text) if pairs else isinstance(text, str))
        ]
        if wrong:
            expected = f"pairs of strings ({', '.join(self.text_names)})" if pairs else "strings"
            found = repr(texts[wrong[0] - 1])[:80]
            raise DataError(problems=[Problem("some of the texts can't be read", found, expected, rows=wrong)])
        check_unicode(texts)

    def predict_table(
        self, table: RowTable, text_names: Sequence[str], added: Mapping[str, str]
    ) -> Iterator[dict[str, Any]]:
        """Every row of a table with its columns, `prediction` and `confidence`; a row without text gets None.

        Args:
            text_names: the table's column of texts, or its two of pairs.
            added: what `prediction` and `confidence` are called.
        """
        for columns in iterate_chunks(table):
            yield from self._predict_chunk(columns, text_names, added)

    def _predict_chunk(
        self, columns: dict[str, list[Any]], text_names: Sequence[str], added: Mapping[str, str]
    ) -> Iterator[dict[str, Any]]:
        texts = list(zip(*(columns[name] for name in text_names), strict=True))
        usable = [i for i, parts in enumerate(texts) if all(is_text(part) for part in parts)]
        wanted: Any = [texts[i] if len(text_names) == 2 else str(texts[i][0]) for i in usable]
        found = dict(zip(usable, self.predict(wanted), strict=True))
        for i in range(len(texts)):
            row = {name: values[i] for name, values in columns.items()}
            summary = summarise_prediction(found.get(i), self.task.labels.kind)
            yield row | {added[name]: value for name, value in summary.items()}

    def evaluate(self, part: Part) -> dict[str, Any]:
        """`metrics` and `intervals` of labelled rows, and by what the run is judged."""
        logits_NC = np.concatenate([self.logits(texts) for texts in part.texts(ROWS_AT_ONCE)])
        settings = self.config.evaluation
        intervals = self.task.intervals(
            logits_NC, part.labels, self.state, settings.bootstrap_resamples, self.config.seed
        )
        scores = self.task.score(logits_NC, part.labels, self.state)
        return {
            "run": str(self.folder.path),
            "technique": self.technique.name,
            "primary_metric": self.task.primary_metric,
            "metrics": prefix_scores("test", scores),
            "intervals": prefix_bounds("test", intervals),
        }


def open_predictor(path: Path) -> Predictor:
    """The model of a finished run, as its task uses it."""
    if open_run(path).read_task()["task"] != TAGGING:
        return Predictor(path)
    from afina.pipeline.tagging.predictor import TagPredictor

    return TagPredictor(path)


def is_pair(value: Any) -> bool:
    """Whether this is a pair of strings."""
    return isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def is_text(value: Any) -> bool:
    """Whether a cell holds something to read."""
    return isinstance(value, str) and bool(value.strip())


def summarise_prediction(found: dict[str, Any] | None, kind: str) -> dict[str, Any]:
    """`prediction`, and for classes `confidence`: the probability of the class given, or of each label given."""
    if found is None:
        return {"prediction": None} if kind == "regression" else {"prediction": None, "confidence": None}
    if kind == "regression":
        return {"prediction": found["prediction"]}
    probabilities = found["probabilities"]
    if kind == "multiclass":
        return {"prediction": found["prediction"], "confidence": round(probabilities[found["prediction"]], 6)}
    return {
        "prediction": found["prediction"],
        "confidence": {name: round(probabilities[name], 6) for name in found["prediction"]},
    }
