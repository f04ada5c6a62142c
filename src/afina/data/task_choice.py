"""Which task the labels call for, by rules that can be said in a sentence, or an error where they call for
none.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from afina.config.run import TaskName
from afina.data.bad_rows import RowNumbers
from afina.data.label_profile import LabelProfile, ValueKind, find_kind
from afina.data.label_values import parse_number
from afina.data.rows import RowTable
from afina.errors import DataError, Problem
from afina.wording import count

CLASSES_OF_NUMBERS = 20
ROWS_A_CLASS = 5
NAMES_FREE = 50
KnownTask = Literal["text-classification", "text-regression", "token-classification"]
COMMA_NUMBER = re.compile(r"[+-]?\d+,\d+")
DRESSED_NUMBER = re.compile(r"[+-]?[^\w\s+-]?\s?[+-]?\d+(,\d{3})*(\.\d+)?\s?[^\w\s]?")
DECIMAL_COMMA = "the labels are numbers with a decimal comma: write 0.65 for 0,65"
# What may part several labels in one cell.
SEPARATORS = ("|", ";", ",")
FREE_REMEDY = "--label-column NAME for another column; for numbers --task text-regression"
MIXED_REMEDY = "mend these rows; or write --task text-classification, which takes every value as the name of a class"


@dataclass(frozen=True, slots=True)
class TaskChoice:
    task: KnownTask
    multi_label: bool
    reason: str


def choose_task(
    table: RowTable, column: str, profile: LabelProfile, task: TaskName, separator: str | None
) -> TaskChoice:
    """The task for a label column. DataError when nothing, or not the task asked for, can be learned."""
    if not profile.filled_count:
        raise DataError(f"{table.source}: the label column {column!r} is empty", expected="a label in each row")
    if _is_multi_label(profile, separator):
        choice = _choose_multi_label(table, column, profile, task, separator)
    elif task == "text-classification" or task == "text-regression":
        choice = TaskChoice(task, False, "given")
    else:
        choice = _guess(table, column, profile)
    _check_variety(table, column, profile, choice)
    return choice


def _is_multi_label(profile: LabelProfile, separator: str | None) -> bool:
    if separator:
        return True
    kinds, filled = profile.kinds, profile.filled_count
    return 2 * kinds["list"] > filled or kinds["list as text"] == filled


def _choose_multi_label(
    table: RowTable, column: str, profile: LabelProfile, task: TaskName, separator: str | None
) -> TaskChoice:
    if task == "text-regression":
        raise DataError(
            f"{table.source}: the label column {column!r} holds lists, which are no numbers to predict",
            expected="one number a row",
            remedy="--task text-classification, or --label-column NAME for a column of numbers",
        )
    if profile.is_marked:
        raise DataError(
            f"{table.source}: the label column {column!r} holds a mark for each label, and no names",
            found="lists of 0 and 1 in which these stand more than once",
            expected='the names of the labels that are marked, such as ["drama", "comedy"]',
            remedy="in Python: [name for name, mark in zip(names, marks) if mark]",
        )
    what = f"{separator!r} stands between the labels of a row" if separator else "labels are lists"
    return TaskChoice("text-classification", True, f"{what}: a row may have several")


def _guess(table: RowTable, column: str, profile: LabelProfile) -> TaskChoice:
    kinds, filled = profile.kinds, profile.filled_count
    if kinds["number"] and kinds["word"] + kinds["boolean"]:
        raise _mixed_labels(table, column, profile)
    if kinds["number"]:
        return _guess_from_numbers(profile)
    if kinds["boolean"] == filled:
        return TaskChoice("text-classification", False, "labels are true or false")
    return TaskChoice("text-classification", False, f"labels are words, {len(profile.names):,} different ones")


def _guess_from_numbers(profile: LabelProfile) -> TaskChoice:
    if not profile.is_whole:
        return TaskChoice("text-regression", False, "labels are numbers with decimals")
    values = sorted({int(number) for name in profile.names if (number := parse_number(name)) is not None})
    total = profile.kinds["number"]
    if len(values) <= CLASSES_OF_NUMBERS and not profile.is_capped:
        reason = f"labels are whole numbers with {len(values)} different values, {CLASSES_OF_NUMBERS} at most"
        return TaskChoice("text-classification", False, reason)
    is_numbered = not profile.is_capped and values == list(range(len(values)))
    if is_numbered and total >= ROWS_A_CLASS * len(values):
        reason = f"labels are the whole numbers from 0 to {values[-1]:,}, with {ROWS_A_CLASS} rows each or more"
        return TaskChoice("text-classification", False, reason)
    more = "more than " if profile.is_capped else ""
    return TaskChoice("text-regression", False, f"labels are whole numbers with {more}{len(values):,} different values")


def _mixed_labels(table: RowTable, column: str, profile: LabelProfile) -> DataError:
    numbers, words = profile.kinds["number"], profile.kinds["word"] + profile.kinds["boolean"]
    rarer: tuple[ValueKind, ...] = ("number",) if numbers < words else ("word", "boolean")
    rows, example = _find_rows(table, column, rarer)
    kind = "numbers" if numbers < words else "words"
    return DataError(
        problems=[
            Problem(
                f"{table.source}: the label column {column!r} mixes numbers and words; the rarer are {kind}",
                f"{count(numbers, 'number')} and {count(words, 'word')}, such as {example!r}",
                "labels that are all numbers, or all names of classes",
                MIXED_REMEDY,
                rows,
            )
        ]
    )


def _find_rows(table: RowTable, column: str, kinds: tuple[ValueKind, ...]) -> tuple[RowNumbers, object]:
    rows, example = RowNumbers(), None
    for row, value in zip(table.row_numbers, table.column(column), strict=True):
        if find_kind(value) in kinds:
            example = value if example is None else example
            rows.add(int(row))
    return rows, example


def _check_variety(table: RowTable, column: str, profile: LabelProfile, choice: TaskChoice) -> None:
    """DataError where all rows have one label, or nearly each row its own."""
    where = f"{table.source}: the label column {column!r}"
    if choice.task == "text-regression":
        if not profile.kinds["number"]:
            otherwise = "--task text-classification, or --label-column NAME"
            raise DataError(
                f"{where} holds no numbers",
                found=f"labels such as {next(iter(profile.names), '')!r}",
                expected="one number a row",
                remedy=advise_numbers(profile.names) or otherwise,
            )
        values = {parse_number(name) for name in profile.names} - {None}
        if len(values) == 1:
            raise DataError(
                f"{where} holds one number only",
                found=f"{values.pop():g} in all rows",
                expected="numbers that differ",
                remedy="--label-column NAME for another column",
            )
        return
    names, filled = profile.list_names if choice.multi_label else profile.names, profile.filled_count
    if not names or (len(names) == 1 and names.total() == filled):
        raise DataError(
            f"{where} holds one class only",
            found=f"{next(iter(names), 'no label')!r} in all rows",
            expected="two classes or more",
            remedy="--label-column NAME for another column, or add other classes",
        )
    if len(names) > max(NAMES_FREE, filled / 2) or profile.is_capped:
        example, separator = next(iter(names)), find_separator(names)
        joined = f"--label-separator '{separator}' if a cell names several labels; " if separator else ""
        raise DataError(
            f"{where} looks like free text or numbers, not like names of classes",
            found=f"{len(names):,} different values in {filled:,} rows, such as {example[:60]!r}",
            expected="a few classes, each with several rows",
            remedy=advise_numbers(names) or f"{joined}{FREE_REMEDY}",
        )


def advise_numbers(names: Collection[str]) -> str:
    """What to write where all labels are numbers as people write them, such as 0,65 or $2,131 or 100%; empty where they
    aren't."""
    if names and all(COMMA_NUMBER.fullmatch(name.strip()) for name in names):
        return DECIMAL_COMMA
    example = next(iter(names), "")
    if names and all(DRESSED_NUMBER.fullmatch(name.strip()) for name in names):
        plain = re.sub(r"[^\d.+-]", "", example)
        return f"the labels are numbers with signs around them or within: write {plain} for {example}"
    return ""


def find_separator(names: Collection[str]) -> str:
    """What stands in so many names of classes that it may part several in one cell; empty if nothing does."""
    return next((each for each in SEPARATORS if 3 * sum(each in name for name in names) >= len(names)), "")
