"""predictions.jsonl: what the model says of each test row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from afina.runs.folder import RunFolder
from afina.runs.names import PREDICTIONS


def write_predictions(folder: RunFolder, row_numbers: Iterable[int], predictions: Iterable[Mapping[str, Any]]) -> None:
    """One line a row: `row` (its number in the user's data), `prediction`, and what is known beside it."""
    pairs = zip(row_numbers, predictions, strict=True)
    folder.write_lines(PREDICTIONS, ({"row": int(number), **prediction} for number, prediction in pairs))
