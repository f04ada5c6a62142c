"""What a label column holds, over all its rows: how many of each kind, and each label's count.

Labels are counted by name up to `NAMES_MOST` distinct ones: what has more is a target of numbers or no label
at all, and the memory stays small either way.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from afina.data.label_values import is_not_finite, name_label, parse_list, parse_number
from afina.data.rows import RowTable

NAMES_MOST = 100_000
MARKS = {"0", "1", "true", "false"}
ValueKind = Literal["missing", "number", "not finite", "word", "boolean", "list", "list as text", "object"]


@dataclass(slots=True)
class LabelProfile:
    """Counts over a label column."""

    kinds: Counter[ValueKind] = field(default_factory=Counter)
    """Rows by kind of their value."""
    names: Counter[str] = field(default_factory=Counter)
    """Rows by name of the label, for single labels."""
    list_names: Counter[str] = field(default_factory=Counter)
    """Rows by name of the label, for lists of labels: a row counts for each of its labels."""
    types: set[str] = field(default_factory=set)
    """Names of the Python types that single labels and entries of lists have: `str`, `int`, `float`, `bool`."""
    is_capped: bool = False
    """Whether there are more names than are counted."""
    is_whole: bool = True
    """Whether all numbers are whole."""
    repeats: bool = False
    """Whether some list has the same entry twice, as a list of names has not."""

    @property
    def is_marked(self) -> bool:
        """Whether lists hold a mark for each label, such as [0, 1, 1], and no names."""
        return self.repeats and set(self.list_names) <= MARKS

    @property
    def filled_count(self) -> int:
        return sum(self.kinds.values()) - self.kinds["missing"]


def profile_labels(table: RowTable, column: str, separator: str | None) -> LabelProfile:
    """The profile of a label column."""
    profile = LabelProfile()
    for (values,) in table.columns(column):
        _add_values(profile, values, separator)
    return profile


def _add_values(profile: LabelProfile, values: list[Any], separator: str | None) -> None:
    # Values are counted first: a column of labels repeats itself. The type tells True from 1.
    keys = ((type(v), json.dumps(v) if isinstance(v, (list, dict)) else v) for v in values)
    for (value_type, key), count in Counter(keys).items():
        value = json.loads(key) if value_type in (list, dict) else key
        kind = find_kind(value)
        profile.kinds[kind] += count
        if kind != "missing":
            profile.types |= {type(each).__name__ for each in (value if isinstance(value, list) else [value])}
        if kind in ("list", "list as text") or (separator and kind != "missing"):
            names = parse_list(value, separator) or []
            _count_names(profile, profile.list_names, names, count)
            profile.repeats = profile.repeats or (isinstance(value, list) and len(names) < len(value))
        name = name_label(value)
        if name is not None:
            _count_names(profile, profile.names, [name], count)
        number = parse_number(value) if kind == "number" else None
        profile.is_whole = profile.is_whole and (number is None or number.is_integer())


def _count_names(profile: LabelProfile, counter: Counter[str], names: list[str], count: int) -> None:
    for name in names:
        if name in counter or len(counter) < NAMES_MOST:
            counter[name] += count
        else:
            profile.is_capped = True


def find_kind(value: Any) -> ValueKind:
    """The kind of one value."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return "missing"
    if isinstance(value, bool):
        return "boolean"
    if parse_number(value) is not None:
        return "number"
    if is_not_finite(value):
        return "not finite"
    if isinstance(value, str):
        return "list as text" if parse_list(value, None) is not None else "word"
    return "list" if isinstance(value, list) else "object"
