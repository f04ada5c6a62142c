"""The JSON of a model's folder as values that anybody may have written: walked through, and shown in errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

# Names of classes that the data gave are keys here, and may be any word.
FREE_KEYS = frozenset({"id2label", "label2id"})
SHOWN_CHARACTERS = 80


def iterate_settings(settings: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth."""
    waiting = [settings]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            yield from value.items()
            waiting += [inner for key, inner in value.items() if key not in FREE_KEYS]


def show_value(value: Any) -> str:
    """The start of a value, as JSON in ASCII."""
    return json.dumps(value, ensure_ascii=True)[:SHOWN_CHARACTERS]
