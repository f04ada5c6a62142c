"""predictions.jsonl: what the model says of each test row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_predictions(path: Path, row_numbers: Iterable[int], predictions: Iterable[Mapping[str, Any]]) -> None:
    """One line a row: `row` (its number in the user's data), `prediction`, and what is known beside it."""
    with open(path, "w", encoding="utf-8") as file:
        for number, prediction in zip(row_numbers, predictions, strict=True):
            file.write(json.dumps({"row": int(number), **prediction}, ensure_ascii=False) + "\n")
