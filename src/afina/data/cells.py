"""Values of one column on their way into Arrow: which kind holds them, and what is wrong with a cell that
can't go in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from afina.data.rows import ARROW_TYPES, Kind

MOST_CHARACTERS = 5_000_000
"""Of one cell. A long novel has three million; a row of fifty million takes fourteen gigabytes to tokenise."""
KIND_OF_TYPE: dict[type, Kind] = {str: "text", int: "integer", float: "decimal", bool: "boolean"}


class CellFaultError(Exception):
    """A batch holds a cell that can't be stored."""


def join_kinds(kind: Kind | None, values: Iterable[Any]) -> Kind | None:
    """The narrowest kind that holds a column of `kind` and `values`; None while all are missing."""
    kinds = {KIND_OF_TYPE.get(t, "json") for t in set(map(type, values)) - {type(None)}}
    if kind is not None:
        kinds.add(kind)
    if len(kinds) <= 1:
        return next(iter(kinds), None)
    return "decimal" if kinds == {"integer", "decimal"} else "json"


def build_array(values: list[Any], kind: Kind) -> Any:
    """An Arrow array. CellFaultError: a bad cell; OverflowError, ArrowInvalid: `kind` is too narrow."""
    try:
        if kind == "json":
            values = [None if value is None else write_json(value) for value in values]
        array = pa.array(values, ARROW_TYPES[kind])
    except (UnicodeEncodeError, RecursionError, CellFaultError):
        raise CellFaultError from None
    if kind in ("text", "json") and array.nbytes > MOST_CHARACTERS and find_longest(array) > MOST_CHARACTERS:
        raise CellFaultError
    if kind == "decimal" and pc.all(pc.is_finite(array)).as_py() is False:
        raise CellFaultError
    return array


def find_longest(array: Any) -> int:
    """Characters of the longest text."""
    return int(pc.max(pc.utf8_length(array)).as_py() or 0)


def write_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError):
        raise CellFaultError from None


def find_cell_fault(value: Any) -> str | None:
    """The kind of fault that keeps one cell from being stored."""
    if isinstance(value, str):
        return find_text_fault(value)
    if isinstance(value, float):
        return None if math.isfinite(value) else "infinite"
    if value is None or isinstance(value, bool):
        return None
    try:
        return find_text_fault(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except RecursionError:
        return "deep"
    except TypeError:
        return "type"
    except ValueError as error:
        return "number" if "digits" in str(error) else "infinite"


def find_text_fault(text: str) -> str | None:
    if len(text) > MOST_CHARACTERS:
        return "long"
    if holds_surrogate(text):
        return "surrogate"
    return "nul" if "\0" in text else None


def holds_surrogate(text: str) -> bool:
    """Whether half of a surrogate pair stands alone in a text: UTF-8 can't hold it, and no tokenizer takes it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
