"""The same rows in several runs: matched by what stands in them, whichever file or split they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from afina.metrics.paired import TAGGED, ScoredRows
from afina.metrics.tags import Tagging, count_rows
from afina.runs.folder import RunFolder
from afina.runs.row_scores import check_lines, read_row_scores


@dataclass(frozen=True)
class Matched:
    """The rows that all of some runs scored, in one order."""

    rows: list[ScoredRows]
    """One a run."""
    row_counts: list[int]
    """How many rows each run scored in all."""

    @property
    def shared(self) -> int:
        """Rows that all runs have."""
        return len(self.rows[0])

    @property
    def is_whole(self) -> bool:
        """Whether all runs scored the very same rows."""
        return all(count == self.shared for count in self.row_counts)


def match_rows(folders: Sequence[RunFolder], part: str, kind: str) -> Matched | None:
    """The rows of `part` that every run scored; None where a run keeps no scores by row, or none is shared.

    Equal rows are matched in their order, so a row that stands twice in one run and once in another counts once.
    """
    lines = [read_row_scores(folder, part) for folder in folders]
    for folder, each in zip(folders, lines, strict=True):
        check_lines(folder, each.values(), kind)
    shared = sorted(set.intersection(*(set(each) for each in lines)))
    if not shared:
        return None
    found = {name for each in lines for key in shared for name in list_names(each[key], kind)}
    # A mean over labels counts those that no row has, as a report does.
    known = (name for folder in folders for name in folder.read_task()["labels"]["names"])
    names = sorted(found.union(known) if kind == "multilabel" else found)
    numbers = {name: number for number, name in enumerate(names)}
    rows = [arrange_rows([each[key] for key in shared], kind, numbers) for each in lines]
    return Matched(rows, [len(each) for each in lines])


def list_names(line: Mapping[str, Any], kind: str) -> list[str]:
    """The names of classes in a line."""
    if kind == "multiclass":
        return [line["label"], line["prediction"]]
    return [*line["label"], *line["prediction"]] if kind == "multilabel" or kind in TAGGED else []


def arrange_rows(lines: Sequence[Mapping[str, Any]], kind: str, numbers: Mapping[str, int]) -> ScoredRows:
    """The lines of one run as arrays; classes are numbered by `numbers`."""
    if kind == "generation":
        losses_N, tokens_N, correct_N = (
            np.asarray([line[name] for line in lines], np.float64) for name in ("loss", "tokens", "correct")
        )
        return ScoredRows(kind, losses_N=losses_N, tokens_N=tokens_N, correct_N=correct_N)
    labels, predictions = ([line[name] for line in lines] for name in ("label", "prediction"))
    if kind in TAGGED:
        return arrange_tags(lines, kind, labels, predictions, numbers)
    if kind == "regression":
        return ScoredRows(kind, np.asarray(labels, np.float64), np.asarray(predictions, np.float64))
    losses_N = np.asarray([line["loss"] for line in lines], np.float64)
    if kind == "multiclass":
        marks = (np.asarray([numbers[name] for name in each], np.int64) for each in (labels, predictions))
    else:
        marks = (mark_names(each, numbers) for each in (labels, predictions))
    return ScoredRows(kind, next(marks), next(marks), losses_N)


def arrange_tags(
    lines: Sequence[Mapping[str, Any]], kind: str, labels: Sequence[list[str]], predictions: Sequence[list[str]],
    numbers: Mapping[str, int],
) -> ScoredRows:  # fmt: skip
    """Rows of words with a tag each. Those whose two lists differ in length are another file's: refused as damaged."""
    true_K, given_K = (
        np.asarray([numbers[name] for each in rows for name in each], np.int64) for rows in (labels, predictions)
    )
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in labels])]).astype(np.int64)
    losses_N = np.asarray([line["loss"] for line in lines], np.float64)
    counts = count_rows(Tagging(tuple(numbers)), given_K, true_K, offsets)
    return ScoredRows(kind, losses_N=losses_N, tags=counts)


def mark_names(rows: Sequence[Sequence[str]], numbers: Mapping[str, int]) -> Any:
    """Lists of names as marks (N, C)."""
    marks_NC = np.zeros((len(rows), len(numbers)), np.int64)
    for row, names in enumerate(rows):
        marks_NC[row, [numbers[name] for name in names]] = 1
    return marks_NC
