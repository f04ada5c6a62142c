"""What a column looks like, from rows spread evenly over the table: enough to tell texts from labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from afina.data.label_values import parse_number
from afina.data.rows import RowTable

Indices = npt.NDArray[np.int64]

SAMPLE_ROWS = 1000
EXAMPLE_CHARACTERS = 40
LONG_TEXT_CHARACTERS = 20
Shape = Literal["text", "numbers", "true or false", "lists", "objects", "mixed values", "nothing"]


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """A column in a sample of the rows."""

    name: str
    shape: Shape
    filled_count: int
    distinct_count: int
    mean_characters: float
    example: str
    is_whole: bool = False
    """Whether all its numbers are whole."""

    @property
    def is_text(self) -> bool:
        return self.shape == "text"

    @property
    def is_prose(self) -> bool:
        """Whether it holds texts of some length that seldom repeat."""
        is_long = self.mean_characters >= LONG_TEXT_CHARACTERS
        return self.is_text and is_long and self.distinct_count > 0.5 * self.filled_count

    @property
    def is_target(self) -> bool:
        """Whether it holds numbers that differ and don't just count the rows, as whole ones do of which each stands
        once."""
        counts = self.is_whole and self.distinct_count == self.filled_count
        return self.shape == "numbers" and self.distinct_count > 1 and not counts

    @property
    def is_label_like(self) -> bool:
        """Whether it holds few values that repeat."""
        most = max(2, min(50, self.filled_count // 5))
        return self.shape != "objects" and 2 <= self.distinct_count <= most

    def __str__(self) -> str:
        return f"{self.name} ({self.shape}, such as {self.example})" if self.filled_count else f"{self.name} (empty)"


def profile_columns(table: RowTable) -> dict[str, ColumnProfile]:
    """Profiles of all columns, by name."""
    return {name: _profile(name, values) for name, values in sample_columns(table).items()}


def sample_columns(table: RowTable) -> dict[str, list[Any]]:
    """Values of all columns, by name, in rows spread evenly over the table."""
    return table.take(choose_spread(table.row_count), table.names)


def choose_spread(rows: int) -> Indices:
    """Places of some rows, evenly over all: files are often sorted."""
    return np.unique(np.linspace(0, rows - 1, SAMPLE_ROWS).astype(np.int64))


def _profile(name: str, values: list[Any]) -> ColumnProfile:
    filled = [value for value in values if value is not None and value != ""]
    shapes = {_shape_of(value) for value in filled}
    texts = [value for value in filled if isinstance(value, str)]
    keys = {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in filled}
    mean = sum(map(len, texts)) / len(texts) if texts else 0.0
    example = _shorten(json.dumps(filled[0], ensure_ascii=False)) if filled else ""
    numbers = [parse_number(value) for value in filled]
    is_whole = all(number is not None and number.is_integer() for number in numbers)
    return ColumnProfile(name, _join_shapes(shapes), len(filled), len(keys), mean, example, is_whole)


def _shape_of(value: Any) -> Shape:
    if isinstance(value, bool):
        return "true or false"
    if parse_number(value) is not None:
        return "numbers"
    if isinstance(value, list):
        return "lists"
    return "text" if isinstance(value, str) else "objects"


def _join_shapes(shapes: set[Shape]) -> Shape:
    if not shapes:
        return "nothing"
    # A few messages that are only a number don't make a column of texts one of mixed values.
    if shapes == {"text", "numbers"}:
        return "text"
    return next(iter(shapes)) if len(shapes) == 1 else "mixed values"


def _shorten(text: str) -> str:
    return text if len(text) <= EXAMPLE_CHARACTERS else text[: EXAMPLE_CHARACTERS - 1] + "…"
