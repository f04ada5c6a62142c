"""From the user's file to the parts that train, choose and test: read, choose columns, check, split.

Every bad row of every part is named in one error; under `data.on_bad_rows=drop` bad rows are left out and
counted instead. Parts that the data brings are kept as they are; what is missing is carved out of the
training part.

Letters: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from afina.config.reason import Reason
from afina.config.run import DataConfig, TaskName
from afina.data.columns import CARVED, ColumnChoice, choose_columns
from afina.data.data_notes import note_absent, note_dropped, note_joined, note_other_texts, note_parts, note_unread
from afina.data.label_profile import profile_labels
from afina.data.labels import MISSING, LabelSpace, build_label_space
from afina.data.parts import (
    carve_parts,
    check_filled,
    check_fractions,
    count_rows,
    describe_source,
    explain_choice,
    hash_rows,
    list_problems,
)
from afina.data.rows import RowTable
from afina.data.split import Ints, find_rarest_labels, find_strata
from afina.data.task_choice import advise_numbers, find_separator
from afina.data.usable_rows import NO_TEXT, Labels, UsableRows, find_usable_rows
from afina.errors import DataError
from afina.wording import count

ROWS_A_CLASS = 2
# Every held-out row has a probability for each class, and the report a table of which class was taken for which.
CLASSES_MOST = 5000


@dataclass(frozen=True)
class Part:
    """The rows that train, choose the checkpoint, or test. Texts stay on disk."""

    name: str
    table: RowTable
    text_names: tuple[str, ...]
    indices: Ints
    """Positions in the table (N,), rising."""
    labels: Labels
    """Class numbers (N,), numbers to predict (N,), or 0 and 1 for each class (N, C)."""
    hashes: Ints
    """Equal for rows whose texts read the same (N,)."""

    @property
    def row_numbers(self) -> Ints:
        """Numbers of the rows in the user's file (N,)."""
        return self.table.row_numbers[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def texts(self, batch_size: int = 1000) -> Iterator[list[str] | list[tuple[str, str]]]:
        """Batches of texts, or of pairs of texts, in the order of `indices`."""
        for start in range(0, len(self.indices), batch_size):
            columns = self.table.take(self.indices[start : start + batch_size], self.text_names)
            if len(self.text_names) == 1:
                yield columns[self.text_names[0]]
            else:
                yield list(zip(*(columns[name] for name in self.text_names), strict=True))

    def joined_texts(self) -> list[str]:
        """One text a row; the two of a pair are joined by a line's end."""
        return [text if isinstance(text, str) else "\n".join(text) for batch in self.texts() for text in batch]


@dataclass(frozen=True)
class Examples:
    """All that training needs to know about the data."""

    parts: dict[str, Part]
    """`train`, `validation` and `test`."""
    columns: ColumnChoice
    labels: LabelSpace
    reasons: tuple[Reason, ...]
    """Choices that were made for the user."""
    notes: tuple[str, ...]
    """What was skipped, dropped or looks odd."""
    counts: dict[str, Any]
    """Rows `read`, `used`, and `dropped` by reason with their numbers, see `parts.count_rows`."""
    source: str
    """Name of the source, for messages and records."""
    data_hash: str
    """SHA-256 over texts and labels of the rows used, part by part of the source."""
    class_counts: dict[str, dict[str, int]]
    """Rows by class, for each part; empty where numbers are predicted."""


def load_examples(
    source: Any, config: DataConfig, task: TaskName, seed: int, tables: Mapping[str, RowTable]
) -> Examples:
    """Examples from the tables that `read_parts` made of `source`. DataError lists all that is wrong at once."""
    check_fractions(config)
    tables = dict(tables)
    is_strict = config.on_bad_rows == "fail"
    choice = explain_choice(tables, lambda: choose_columns(tables, config, task), names_unread=is_strict)
    space, usable = find_usable(tables, choice, config)
    refuse_unlabelled(tables, usable)
    problems = list_problems(tables, [*choice.text_names, choice.label])
    problems += [problem for name, rows in usable.items() for problem in rows.problems(tables[name], choice, space)]
    if is_strict and problems:
        raise DataError(problems=problems)
    parts = divide_rows(tables, usable, choice, space, config, seed)
    counts = count_rows(tables, usable)
    class_counts = {name: count_classes(part.labels, space) for name, part in parts.items()}
    notes = [note for table in tables.values() for note in table.notes]
    notes += note_dropped(counts)
    notes += note_unread(tables, {*choice.text_names, choice.label})
    notes += [*note_joined(space), *note_other_texts(tables[next(iter(tables))], {*choice.text_names, choice.label})]
    notes += [
        *note_absent(class_counts),
        note_parts({name: len(part) for name, part in parts.items()}, tables, seed, space.kind),
    ]
    return Examples(
        parts,
        choice,
        space,
        choice.reasons,
        tuple(notes),
        counts,
        describe_source(source),
        hash_rows(usable),
        class_counts,
    )


def find_usable(
    tables: dict[str, RowTable], choice: ColumnChoice, config: DataConfig
) -> tuple[LabelSpace, dict[str, UsableRows]]:
    """The labels of the training rows that can be used, and the usable rows of each part."""
    first = next(iter(tables))
    profile = profile_labels(tables[first], choice.label, config.label_separator)
    space = build_label_space(choice, profile, config.label_separator)
    training = find_usable_rows(tables[first], choice, space)
    used = count_classes(training.labels, space)
    if training.faults and not all(used.values()):
        # A class whose rows were all dropped is no class.
        space = replace(space, names=tuple(name for name in space.names if used[name]))
        present = training.faults
        training = find_usable_rows(tables[first], choice, space)
        training.faults = present
    rest = {name: find_usable_rows(tables[name], choice, space) for name in tables if name != first}
    return space, {first: training, **rest}


def refuse_unlabelled(tables: Mapping[str, RowTable], usable: Mapping[str, UsableRows]) -> None:
    """Refuse a part to score on that the source brings without labels, as sets of competitions do."""
    for name, rows in usable.items():
        lacking = rows.faults.get(MISSING, ())
        if name in ("validation", "test") and len(lacking) == tables[name].row_count:
            raise DataError(
                f"{tables[name].source}: no row of the {name} part has a label", found=f"{len(lacking):,} rows without",
                expected="a label in each row",
                remedy=CARVED,
            )  # fmt: skip


def divide_rows(
    tables: Mapping[str, RowTable], usable: Mapping[str, UsableRows], choice: ColumnChoice, space: LabelSpace,
    config: DataConfig, seed: int,
) -> dict[str, Part]:  # fmt: skip
    """The parts that train, choose and test. Checking data asks for them too, so that it refuses what training does.

    DataError where there are too few rows for that, or too many classes.
    """
    for name, table in tables.items():
        _check_left(table, usable[name], space)
    strata_N = _stratify(usable[next(iter(tables))], space)
    parts = carve_parts(
        tables, usable, strata_N, config, seed,
        lambda name, table, rows, picks_N: make_part(name, table, choice, rows, picks_N),
    )  # fmt: skip
    _check_size(parts["train"], space)
    check_filled(parts, tables[next(iter(tables))].source, "class")
    return parts


def _check_left(table: RowTable, rows: UsableRows, space: LabelSpace) -> None:
    if len(rows.indices):
        if space.kind == "multiclass" and len(space.names) < 2:
            raise DataError(
                f"{table.source}: one class only is left once bad rows are dropped",
                found=f"{space.names[0]!r}",
                expected="two classes or more",
            )
        return
    total = sum(map(len, rows.faults.values()))
    reasons = ", ".join(f"{count(len(numbers), 'row')} with {reason}" for reason, numbers in rows.faults.items())
    is_empty = len(rows.faults.get(NO_TEXT, ())) == total
    raise DataError(
        f"{table.source}: {'all texts are empty' if is_empty else 'no row can be used'}",
        found=reasons,
        expected="rows with a text and a label",
        remedy="--text-column NAME or --label-column NAME",
    )


def make_part(name: str, table: RowTable, choice: ColumnChoice, rows: UsableRows, picks_N: Ints | None = None) -> Part:
    """The part that holds the usable rows of a table, or those at `picks_N` among them."""
    picks_N = np.arange(len(rows.indices)) if picks_N is None else picks_N
    return Part(name, table, choice.text_names, rows.indices[picks_N], rows.labels[picks_N], rows.hashes[picks_N])


def _stratify(rows: UsableRows, space: LabelSpace) -> Ints:
    if space.kind == "regression":
        return find_strata(rows.labels.astype(np.float32))
    if space.kind == "multilabel":
        return find_rarest_labels(rows.labels.astype(np.uint8))
    return rows.labels.astype(np.int64)


def _check_size(train: Part, space: LabelSpace) -> None:
    classes = len(space.names)
    remedy = "join classes; --task text-regression where the labels are numbers"
    if separator := find_separator(space.names):
        remedy = f"--label-separator '{separator}' if a cell names several labels, or {remedy}"
    if classes > CLASSES_MOST:
        raise DataError(
            f"{train.table.source}: too many classes", found=f"{classes:,} different labels",
            expected=f"at most {CLASSES_MOST:,}, whose table of confusions memory can hold", remedy=remedy,
        )  # fmt: skip
    if len(train) < ROWS_A_CLASS * classes:
        raise DataError(
            f"{train.table.source}: too few rows for its classes",
            found=f"{count(len(train), 'row')} to train on for {classes:,} classes",
            expected=f"at least {ROWS_A_CLASS} rows a class on average",
            remedy=advise_numbers(space.names) or (remedy if find_separator(space.names) else f"add rows, or {remedy}"),
        )


def count_classes(labels_N: Labels, space: LabelSpace) -> dict[str, int]:
    """Rows by name of the class; empty where numbers are predicted."""
    if space.kind == "regression":
        return {}
    if space.kind == "multilabel":
        counts = labels_N.sum(axis=0, dtype=np.int64)
    else:
        counts = np.bincount(labels_N.astype(np.int64), minlength=len(space.names))
    return dict(zip(space.names, counts.tolist(), strict=True))
