"""What a model is to learn from a label: the classes and their order, or a number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

from afina.data.columns import ColumnChoice
from afina.data.label_profile import LabelProfile
from afina.data.label_values import is_not_finite, name_label, parse_list, parse_number

LabelKind = Literal["multiclass", "multilabel", "regression", "entities", "tags"]
LabelValues = Literal["text", "numbers", "booleans"]
MISSING = "no label"
UNKNOWN = "a label that the training part doesn't have"
NO_NUMBER = "a label that is no number"
NOT_FINITE = "a label that is NaN or infinite"
TOO_LARGE = "a label beyond 1e18"
NO_LIST = "a label that is no list of names"
NO_NAME = "a label that is a list or an object"
LARGEST = 1e18
"""Of a number to predict, whose sign doesn't matter: squared errors, and their sum, are finite in 32 bits."""


@dataclass(frozen=True)
class LabelSpace:
    """The labels a run knows: names by class number, or none where numbers are predicted. Words have `tags`, and where
    these name `entities`, prefixes in them say where one begins."""

    kind: LabelKind
    names: tuple[str, ...] = ()
    """Class names, spelled as in the data: numbers by size, words by alphabet."""
    separator: str | None = None
    """What stands between the labels of one cell."""
    values: LabelValues = "text"
    """What the labels are in the data, so that predictions are of that type; names are text."""

    def encode(self, value: Any) -> int | float | list[int]:
        """The class number, the rising class numbers of a multi-label row, or the number to predict.

        ValueError with one of this module's reasons when the label can't be used.
        """
        if value is None or (isinstance(value, str) and not value.strip()):
            raise ValueError(MISSING)
        if self.kind == "regression":
            number = parse_number(value)
            if number is None:
                raise ValueError(NOT_FINITE if is_not_finite(value) else NO_NUMBER)
            if abs(number) > LARGEST:
                raise ValueError(TOO_LARGE)
            return number
        if self.kind == "multilabel":
            names = parse_list(value, self.separator)
            if names is None:
                raise ValueError(NO_LIST)
            return sorted(self._find(name) for name in names)
        name = name_label(value)
        if name is None:
            raise ValueError(NO_NAME)
        if self.values == "booleans":  # which a csv holds as Python spells them
            name = name.strip().lower()
        return self._find(name)

    @property
    def spell_none(self) -> str:
        """What to write for a row that has none of several labels, as a piece of advice; empty for other kinds."""
        if self.kind != "multilabel":
            return ""
        written = f"{self.separator!r} alone" if self.separator else "[]"
        return f"write {written} as the label of a row that has none of them; "

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "names": list(self.names), "separator": self.separator, "values": self.values
        }  # fmt: skip

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> LabelSpace:
        return cls(
            cast(LabelKind, stored["kind"]),
            tuple(stored["names"]),
            stored.get("separator"),
            stored.get("values", "text"),
        )

    def restore(self, name: str) -> str | int | float | bool:
        """The label of this name as the data has it."""
        if self.values == "booleans":
            return name == "true"
        if self.values != "numbers":
            return name
        try:
            return int(name)  # not by way of float, which holds whole numbers up to 2^53 only
        except ValueError:
            number = float(name)
        return int(number) if number.is_integer() else number

    def _find(self, name: str) -> int:
        index = self._index.get(name)
        if index is None and self.is_numeric:  # 1 and 1.0 are one class: tables write gaps by making numbers decimal
            index = self._by_number.get(parse_number(name))
        if index is None:
            raise ValueError(NOT_FINITE if is_not_finite(name) and self.is_numeric else UNKNOWN)
        return index

    @cached_property
    def is_numeric(self) -> bool:
        """Whether all names are numbers, so that NaN among them is a gap and no class."""
        return all(parse_number(name) is not None for name in self.names)

    @cached_property
    def _by_number(self) -> dict[float | None, int]:
        """Numbers of classes whose names are numbers; none where two names are the same number."""
        found = {parse_number(name): i for i, name in enumerate(self.names)}
        return found if len(found) == len(self.names) else {}

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}


def build_label_space(choice: ColumnChoice, profile: LabelProfile, separator: str | None) -> LabelSpace:
    """The labels of the training part."""
    if choice.task == "text-regression":
        return LabelSpace("regression")
    if choice.multi_label:
        return LabelSpace("multilabel", sort_names(list(profile.list_names)), separator, find_values(profile))
    finite = [name for name in profile.names if not is_not_finite(name)]
    space = LabelSpace("multiclass", sort_names(finite), values=find_values(profile))
    if finite and space.is_numeric:
        return space
    return LabelSpace("multiclass", sort_names(list(profile.names)), values=find_values(profile))


def find_values(profile: LabelProfile) -> LabelValues:
    """What the labels are in the data."""
    if profile.types and profile.types <= {"int", "float"}:
        return "numbers"
    return "booleans" if profile.types == {"bool"} else "text"


def sort_names(names: list[str]) -> tuple[str, ...]:
    """Names by number when all of them are numbers, else by alphabet."""
    numbers = {name: parse_number(name) for name in names}
    if all(number is not None for number in numbers.values()):
        return tuple(sorted(names, key=lambda name: (numbers[name] or 0.0, name)))
    return tuple(sorted(names))
