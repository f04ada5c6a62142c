"""A finished run that tags words, in use: tags and entities of new rows, scores on new tagged rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from afina.data.encode_words import encode_words
from afina.data.examples import Part
from afina.data.rows import RowTable
from afina.data.tagged_rows import TaggedPart
from afina.data.tags import Span, join_offsets, read_words
from afina.errors import DataError, Problem
from afina.metrics.naming import prefix_bounds, prefix_scores
from afina.models.vocabulary import check_vocabulary, count_vectors
from afina.pipeline.given_texts import check_unicode, list_given, take_texts
from afina.pipeline.predictor import Predictor
from afina.pipeline.source_rows import ROWS_AT_ONCE, iterate_chunks
from afina.tasks.base import Floats
from afina.tasks.token_classification import TokenClassification
from afina.training.tagged_words import predict_words

WORDS = "words"


class TagPredictor(Predictor):
    """See `Predictor`. A row is a list of words, or a text whose words are found as in training."""

    def tag(self, rows: Sequence[list[str]]) -> list[dict[str, Any]]:
        """`prediction`, `probabilities` and, where tags name them, `entities` of each row of words."""
        offsets = join_offsets([len(row) for row in rows])
        return self._task.predict_rows(self._compute(rows), offsets)

    @property
    def _task(self) -> TokenClassification:
        return cast(TokenClassification, self.task)

    def _compute(self, rows: Sequence[list[str]]) -> Floats:
        """Logits of all words of all rows, shape (K, C)."""
        length = int(self.config.model.max_seq_length)
        with tempfile.TemporaryDirectory(prefix="afina-") as work:
            words = encode_words(self.tokenizer, [rows], length, Path(work))
            check_vocabulary(words.tokens.ids, count_vectors(self.model.config), self.folder.model)
            return predict_words(self.model, words, self.inference)

    def predict(self, given: Any) -> Sequence[dict[str, Any]]:
        """One mapping for each row, with `prediction` (a tag for each word), `probabilities` and `entities`.

        Args:
            given: lists of words, texts, or rows that hold them in the column the model has learned from.
        """
        cells = take_texts(list_given(given, "predict", "row"), self.text_names)
        wrong = [number for number, cell in enumerate(cells, 1) if split_cell(cell) is None]
        if wrong:
            found = repr(cells[wrong[0] - 1])[:80]
            raise DataError(
                problems=[Problem("some of the rows can't be read", found, "lists of words, or texts", rows=wrong)]
            )
        check_unicode([cell if isinstance(cell, str) else "".join(cell) for cell in cells])
        return [self._describe(cell, found) for cell, found in zip(cells, self._tag_cells(cells), strict=True)]

    def _tag_cells(self, cells: Sequence[Any]) -> list[dict[str, Any]]:
        read = [split_cell(cell) for cell in cells]
        return self.tag([each[0] for each in read if each]) if read else []

    def _describe(self, cell: Any, found: dict[str, Any]) -> dict[str, Any]:
        """What was found in one cell, its entities with their text and, where it is a text, their characters."""
        words, places = split_cell(cell) or ([], None)
        described = dict(found)
        if "entities" in found:
            described["entities"] = [describe_entity(each, words, places, cell) for each in found["entities"]]
        return described

    def predict_table(
        self, table: RowTable, text_names: Sequence[str], added: Mapping[str, str]
    ) -> Iterator[dict[str, Any]]:
        """Every row of a table with its columns and those that are added; a row without words gets None.

        Args:
            text_names: the table's column of words or texts.
            added: what the columns of `list_added` are called.
        """
        for columns in iterate_chunks(table):
            cells = columns[text_names[0]]
            usable = [i for i, cell in enumerate(cells) if split_cell(cell) is not None]
            found = dict(zip(usable, self._tag_cells([cells[i] for i in usable]), strict=True))
            for i, cell in enumerate(cells):
                row = {name: values[i] for name, values in columns.items()}
                values = self._summarise(cell, found.get(i))
                yield row | {called: values.get(name) for name, called in added.items()}

    def _summarise(self, cell: Any, found: dict[str, Any] | None) -> dict[str, Any]:
        if found is None:
            return {}
        described, words = self._describe(cell, found), split_cell(cell)
        return {
            "prediction": described["prediction"], "confidence": described["probabilities"],
            "predicted_entities": described.get("entities"), WORDS: words[0] if words else None,
        }  # fmt: skip

    def evaluate(self, part: Part) -> dict[str, Any]:
        assert isinstance(part, TaggedPart)
        logits_KC = np.concatenate([self._compute(words) for words in part.words(ROWS_AT_ONCE)])
        counts, settings = self._task.count(logits_KC, part.tags), self.config.evaluation
        intervals = counts.bootstrap(settings.bootstrap_resamples, self.config.seed)
        scores = self.task.score(logits_KC, part.tags, self.state)  # type: ignore[arg-type]
        return {
            "run": str(self.folder.path),
            "technique": self.technique.name,
            "primary_metric": self.task.primary_metric,
            "metrics": prefix_scores("test", scores),
            "intervals": prefix_bounds("test", intervals),
            "per_class": counts.tabulate(self._task.tagging.types),
        }


def split_cell(cell: Any) -> tuple[list[str], list[Span] | None] | None:
    """The words of a cell, and of a text where they stand; None where it holds none."""
    try:
        return read_words(cell)
    except ValueError:
        return None


def describe_entity(
    found: Mapping[str, Any], words: Sequence[str], places: Sequence[Span] | None, cell: Any
) -> dict[str, Any]:
    """An entity as it is handed out: in a text with its first character and the one after its last."""
    first, last = found["first_word"], found["last_word"]
    entity: dict[str, Any] = {"label": found["type"], "first_word": first, "last_word": last}
    if places is None:
        entity["text"] = " ".join(words[first : last + 1])
    else:
        start, end = places[first][0], places[last][1]
        entity |= {"start": start, "end": end, "text": cell[start:end]}
    return {**entity, "probability": found["probability"]}


def list_added(table: RowTable, text_name: str, *, has_entities: bool) -> list[str]:
    """The columns that predicting adds: of texts also the words that the tags belong to."""
    added = ["prediction", "confidence", *(["predicted_entities"] if has_entities else [])]
    return [*added, WORDS] if table.kinds[text_name] == "text" else added
