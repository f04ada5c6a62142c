"""What a cleaned copy leaves out and rewrites, decided in one pass over the rows.

Cells are cleaned first (`characters.clean_text`, one spelling a label), then rows are judged as they will stand: rows
without a text or a label go, or with something else for a text, then all rows of a text with several labels, then all
but the first of equal rows, then rows of an earlier part that a later one holds too.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from afina.data.columns import ColumnChoice
from afina.data.conversation_columns import OPTIONAL, ConversationColumns, parse_objects
from afina.data.conversation_rows import ConversationFaultError, find_prompt, normalize_row, write_json
from afina.data.doctor.characters import clean_text
from afina.data.doctor.classes import group_variants
from afina.data.doctor.repeats import find_far_apart, find_torn
from afina.data.doctor.subject import Bools, combine, find_repeats
from afina.data.label_profile import profile_labels
from afina.data.label_values import name_label, parse_list, parse_number
from afina.data.labels import LARGEST
from afina.data.rows import RowTable
from afina.data.split import Ints, normalize_text
from afina.data.usable_rows import NO_TEXT, find_text_fault

Row = Mapping[str, Any]
EMPTY, NO_STRING, CONFLICT, DUPLICATE, LEAK, UNREAD = (
    "empty-row",
    "text-not-text",
    "conflicting-labels",
    "duplicate-row",
    "leaked-row",
    "unread-row",
)
TEXTS, LABELS = "characters", "label-variant"


class Cleaner(Protocol):
    """Knows the columns of one form of data."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it looks at."""
        ...

    @property
    def drops_conflicts(self) -> bool:
        """Whether the same input has one right answer."""
        ...

    def clean(self, row: Row) -> dict[str, tuple[str, Any]]:
        """New values of the cells that change, each with the rule that changes it."""
        ...

    def judge(self, row: Row) -> tuple[int, int, float] | str | None:
        """Hash of what is read, hash and number of what is answered; the rule that drops the row; None: left alone."""
        ...


@dataclass
class LabelledCleaner:
    """Rows with a text and a label."""

    choice: ColumnChoice
    separator: str | None
    spellings: Mapping[str, str]
    """Spellings of labels that become another one."""
    drops_conflicts: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.choice.text_names, self.choice.label)

    def clean(self, row: Row) -> dict[str, tuple[str, Any]]:
        changed = clean_cells(row, self.choice.text_names)
        label = row.get(self.choice.label)
        unified = self.unify(label)
        if unified != label:
            changed[self.choice.label] = (LABELS, unified)
        return changed

    def unify(self, label: Any) -> Any:
        """The label in its commonest spelling."""
        if not self.choice.multi_label:
            return self.spellings.get(label, label) if isinstance(label, str) else label
        names = parse_list(label, self.separator)
        if names is None or not any(name in self.spellings for name in names):
            return label
        names = list(dict.fromkeys(self.spellings.get(name, name) for name in names))
        if isinstance(label, list):
            return names
        is_json = label.lstrip().startswith("[")
        return json.dumps(names, ensure_ascii=False) if is_json else str(self.separator).join(names)

    def judge(self, row: Row) -> tuple[int, int, float] | str | None:
        texts: list[Any] = [row.get(name) for name in self.choice.text_names]
        label = row.get(self.choice.label)
        fault = find_text_fault(texts)
        if fault == NO_TEXT or label is None or (isinstance(label, str) and not label.strip()):
            return EMPTY
        if fault:
            return NO_STRING
        answer = self.read_label(label)
        if answer is None:
            return None
        number = float(answer) if isinstance(answer, float) else 0.0
        return hash_text("\0".join(map(normalize_text, texts))), hash_text(json.dumps(answer)), number

    def read_label(self, label: Any) -> Any:
        """The name, the sorted names, or the number; None where it can't be read."""
        if self.choice.task == "text-regression":
            number = parse_number(label)
            return None if number is None or abs(number) > LARGEST else float(np.float32(number))
        if self.choice.multi_label:
            names = parse_list(label, self.separator)
            return None if names is None else sorted(names)
        return name_label(label)


@dataclass
class ConversationCleaner:
    """Rows that a language model learns."""

    names: ConversationColumns
    drops_conflicts: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.names.names.values())

    def clean(self, row: Row) -> dict[str, tuple[str, Any]]:
        return clean_cells(row, self.columns)

    def judge(self, row: Row) -> tuple[int, int, float] | str | None:
        cells = {role: row.get(name) for role, name in self.names.names.items()}
        try:
            normal = normalize_row(cells, self.names)
        except ConversationFaultError as fault:
            is_empty = cells[fault.role] is None or cells[fault.role] == [] or not str(cells[fault.role]).strip()
            return EMPTY if is_empty and fault.role not in OPTIONAL else None
        return hash_text("\0".join(map(normalize_text, find_prompt(normal)))), hash_text(write_json(normal)), 0.0


def clean_cells(row: Row, names: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """The cells whose texts change."""
    changed = {}
    for name in names:
        value = row.get(name)
        cleaned = clean_value(value)
        if cleaned != value:
            changed[name] = (TEXTS, cleaned)
    return changed


def clean_value(value: Any) -> Any:
    """The value with all its texts cleaned; messages that a cell spells as JSON are cleaned inside."""
    if isinstance(value, str):
        if value.lstrip().startswith("[") and parse_objects(value, is_json=True) is not None:
            objects = json.loads(value)
            cleaned = clean_value(objects)
            return value if cleaned == objects else json.dumps(cleaned, ensure_ascii=False)
        return clean_text(value)
    if isinstance(value, dict):
        return {key: clean_value(item) for key, item in value.items()}
    return [clean_value(item) for item in value] if isinstance(value, list) else value


def hash_text(text: str) -> int:
    """64 bits that are equal for equal texts."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def find_spellings(tables: Mapping[str, RowTable], choice: ColumnChoice, separator: str | None) -> dict[str, str]:
    """Spellings of labels, over all parts, and what becomes of them."""
    if choice.task == "text-regression":
        return {}
    counts: Counter[str] = Counter()
    for table in tables.values():
        profile = profile_labels(table, choice.label, separator)
        counts.update(profile.list_names if choice.multi_label else profile.names)
    return group_variants(counts)


@dataclass
class Keys:
    """What the rows of one part are told apart by."""

    numbers: Ints
    inputs: Ints
    targets: Ints
    values: np.ndarray
    drops: dict[int, str] = field(default_factory=dict)
    """Rule by number of the row."""

    def drop(self, is_dropped: Bools, rule: str) -> None:
        """Leave rows out; those that are out already keep their rule."""
        for number in self.numbers[is_dropped].tolist():
            self.drops[number] = rule
        kept = ~is_dropped
        self.numbers, self.inputs, self.targets = self.numbers[kept], self.inputs[kept], self.targets[kept]
        self.values = self.values[kept]


def decide_drops(tables: Mapping[str, RowTable], cleaner: Cleaner, is_regression: bool) -> dict[str, dict[int, str]]:
    """For each part the rows to leave out, by number, with the rule."""
    keys = {part: read_keys(table, cleaner) for part, table in tables.items()}
    for each in keys.values():
        if is_regression:
            # What goes makes the deviation smaller, by which the rest is judged.
            while (is_torn := find_far_apart(each.inputs, each.values)).any():
                each.drop(is_torn, CONFLICT)
        elif cleaner.drops_conflicts:
            each.drop(find_torn(each.inputs, each.targets), CONFLICT)
        each.drop(find_repeats(combine(each.inputs, each.targets)), DUPLICATE)
    later = np.zeros(0, np.int64)
    for each in reversed(keys.values()):
        each.drop(np.isin(each.inputs, later), LEAK)
        later = np.concatenate([later, each.inputs])
    return {part: each.drops for part, each in keys.items()}


def read_keys(table: RowTable, cleaner: Cleaner) -> Keys:
    """The keys of a part's rows as they will stand, without those that go for what they hold."""
    found, drops = [], {}
    for number, row in iterate_rows(table, cleaner.columns):
        cleaned = {name: value for name, (_, value) in cleaner.clean(row).items()}
        judged = cleaner.judge({**row, **cleaned})
        if isinstance(judged, str):
            drops[number] = judged
        elif judged is not None:
            found.append((number, *judged))
    numbers, inputs, targets, values = zip(*found, strict=True) if found else ((), (), (), ())
    numbers_N, inputs_N, targets_N = (np.array(each, np.int64) for each in (numbers, inputs, targets))
    return Keys(numbers_N, inputs_N, targets_N, np.array(values, np.float32), drops)


def iterate_rows(table: RowTable, names: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and cells of each row that could be read."""
    present, place = [name for name in names if name in table.kinds], 0
    for columns in table.columns(*present):
        for cells in zip(*columns, strict=True):
            yield int(table.row_numbers[place]), dict(zip(present, cells, strict=True))
            place += 1
