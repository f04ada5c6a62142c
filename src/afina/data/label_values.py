"""One cell of a label column: a number, a word, or a list of labels."""

from __future__ import annotations

import json
import math
from typing import Any


def parse_number(value: Any) -> float | None:
    """The finite number that `value` is or spells, else None. Booleans are no numbers."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return _finite(value)
    # float() would take "1_000" and words such as "nan" and "infinity".
    if isinstance(value, str) and value[-1:] not in "fFnNyY" and "_" not in value:
        return _finite(value)
    return None


def is_not_finite(value: Any) -> bool:
    """Whether `value` is or spells NaN or infinity, as Python, numpy and pandas write them."""
    if isinstance(value, bool) or not isinstance(value, (float, str)):
        return False
    try:
        return not math.isfinite(float(value))
    except ValueError:
        return False


def _finite(value: int | float | str) -> float | None:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def name_label(value: Any) -> str | None:
    """The class name of one label: text as it stands, `true`, `false`, `1` for 1 and 1.0; else None."""
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return None


def parse_list(value: Any, separator: str | None) -> list[str] | None:
    """Names of the labels of one row, each once, in their order; None when the cell is no list of labels.

    The cell is a list, text that spells one, or text with `separator` between labels; white space around the separator
    is not part of a label.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("[") and text.endswith("]"):
            value = _load_list(text)
        elif separator:
            value = [piece.strip() for piece in text.split(separator) if piece.strip()]
    if not isinstance(value, list):
        return None
    names = [name_label(item) for item in value]
    known = [name for name in names if name is not None]
    return list(dict.fromkeys(known)) if len(known) == len(names) else None


def _load_list(text: str) -> Any:
    """The list that a cell spells as JSON, or as Python does, which pandas writes into a csv: `['a', 'b']`."""
    for spelled in (text, text.replace("'", '"')):
        try:
            return json.loads(spelled)
        except (ValueError, RecursionError):
            continue
    return None
