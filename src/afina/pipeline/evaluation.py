"""The scores of a run's classifier or regression on other rows: these are read and found right before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from afina.config.run import TAGGING
from afina.data.columns import ColumnChoice, check_columns
from afina.data.examples import Part
from afina.data.labels import LabelSpace
from afina.data.rows import RowTable
from afina.data.tagged_rows import TaggedPart, make_tagged_part, scan_table
from afina.data.task_choice import KnownTask
from afina.data.usable_rows import find_usable_rows
from afina.errors import DataError
from afina.pipeline.renamed_columns import GivenColumns, map_flags, rename_columns
from afina.pipeline.source_rows import leave_out, open_rows
from afina.runs.folder import RunFolder
from afina.runs.seen_texts import read_seen_texts

AnyPart = TypeVar("AnyPart", bound=Part)


def evaluate_labelled(
    folder: RunFolder, source: Any, on_bad_rows: str, columns: GivenColumns | None = None
) -> dict[str, Any]:
    """`metrics` and `intervals` of all rows of a labelled file; `rows` and `rows_seen` count them, `notes` say why the
    latter aren't known.

    Args:
        columns: names of the rows' columns where they differ from those that the run learned from.

    Raises:
        DataError: with every row that has no text, or no label that the model knows.
    """
    stored, seen = rename_columns(folder.read_task(), columns or {}), read_seen_texts(folder)
    with open_rows(source) as rows:
        part, left_out = find_labelled(rows.table, stored, on_bad_rows)
        from afina.pipeline.predictor import open_predictor  # imports torch

        found = open_predictor(folder.path).evaluate(part)
    return {**found, "rows": len(part), "rows_seen": seen.count(part.hashes), "notes": [*left_out, *seen.notes]}


def find_labelled(table: RowTable, stored: Mapping[str, Any], on_bad_rows: str) -> tuple[Part, list[str]]:
    """The rows with their labels encoded, and notes on those that are left out.

    Args:
        stored: task.json of the run.
        on_bad_rows: `fail` refuses a row that can't be scored, `drop` leaves it out.

    Raises:
        DataError: with every row that has no text, or no label that the model knows.
    """
    columns, space = stored["columns"], LabelSpace.from_dict(stored["labels"])
    if stored["task"] == TAGGING:
        check_columns(table, [columns["text"], columns["label"]], map_flags(stored))
        return find_tagged(table, columns["text"], columns["label"], space, on_bad_rows)
    text, pair, label = str(columns["text"]), columns["text_pair"], str(columns["label"])
    check_columns(table, [name for name in (text, pair, label) if name], map_flags(stored))
    choice = ColumnChoice(text, pair, label, cast(KnownTask, stored["task"]), space.kind == "multilabel")
    usable = find_usable_rows(table, choice, space)
    left_out = leave_out(
        [*table.problems_in([*choice.text_names, choice.label]), *usable.problems(table, choice, space)], on_bad_rows
    )
    part = Part("test", table, choice.text_names, usable.indices, usable.labels, usable.hashes)
    return check_any(part, left_out), left_out


def check_any(part: AnyPart, left_out: list[str]) -> AnyPart:
    """The part, refused where nothing of it is left."""
    if not len(part):
        raise DataError(f"{part.table.source}: no row can be scored", found="; ".join(left_out))
    return part


def find_tagged(
    table: RowTable, text: str, label: str, space: LabelSpace, on_bad_rows: str
) -> tuple[TaggedPart, list[str]]:
    """The rows with the numbers of their words' tags, and notes on those that are left out.

    Raises:
        DataError: with every row that can't be used, or has a tag that the model doesn't know.
    """
    choice = ColumnChoice(text, None, label, TAGGING, False)
    usable = scan_table(table, choice, space)
    left_out = leave_out(
        [*table.problems_in([*choice.text_names, choice.label]), *usable.problems(table, choice, space)], on_bad_rows
    )
    return check_any(make_tagged_part("test", table, choice, usable), left_out), left_out
