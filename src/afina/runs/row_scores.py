"""row_scores.jsonl: what a run says of each held-out row, so that runs can be compared row by row.

A line holds `part`, `row` (its number in the user's data), `key` (a hash of its content, whichever file it stands in),
and for rows with a label `label`, `prediction` and, for classes, `loss` (of tagged words their sum); for a language
model the summed `loss` of the row's `tokens`, and how many of them were `correct`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from afina.errors import RunFolderError
from afina.metrics.tags import are_prefixed
from afina.runs.folder import RunFolder
from afina.runs.names import ROW_SCORES

NUMBER = (int, float)
# What a line holds beside its part and its key, by the kind of what was learned.
FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "multiclass": {"label": (str,), "prediction": (str,), "loss": NUMBER},
    "multilabel": {"label": (list,), "prediction": (list,), "loss": NUMBER},
    "regression": {"label": NUMBER, "prediction": NUMBER},
    "entities": {"label": (list,), "prediction": (list,), "loss": NUMBER},
    "tags": {"label": (list,), "prediction": (list,), "loss": NUMBER},
    "generation": {"loss": NUMBER, "tokens": (int,), "correct": (int,)},
}
LARGEST = 1e100


def hash_content(content: Any) -> str:
    """A key of 16 hexadecimal digits for a row's content: texts and label, or messages."""
    text = json.dumps(content, ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def write_row_scores(folder: RunFolder, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write all lines."""
    folder.write_lines(ROW_SCORES, lines)


def read_row_scores(folder: RunFolder, part: str) -> dict[tuple[str, int], dict[str, Any]]:
    """The lines of one part by key; equal rows are told apart by a number, in their order. Empty for an older run.

    Raises:
        RunFolderError: if the file is damaged.
    """
    path = folder.path / ROW_SCORES
    if not path.is_file():
        return {}
    seen: Counter[str] = Counter()
    found = {}
    try:
        with open(path, encoding="utf-8") as file:
            for line in map(json.loads, file):
                if line["part"] == part:
                    key = line["key"]
                    found[str(key), seen[key]] = line
                    seen[key] += 1
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise refuse(folder, "one JSON object a line") from None
    return found


def check_lines(folder: RunFolder, lines: Iterable[Mapping[str, Any]], kind: str) -> None:
    """Refuse lines that no run of this kind has written.

    Raises:
        RunFolderError: naming what such a line holds.
    """
    for line in lines:
        if not all(is_written(line.get(name), types) for name, types in FIELDS[kind].items()):
            raise refuse(folder, f"lines with {', '.join(FIELDS[kind])}")
        if kind in ("entities", "tags") and not 0 < len(line["label"]) == len(line["prediction"]):
            raise refuse(folder, "a predicted tag for each tag")
        if kind == "entities" and not are_prefixed([*line["label"], *line["prediction"]]):
            raise refuse(folder, "tags such as B-PER, or O")


def is_written(value: Any, types: tuple[type, ...]) -> bool:
    """Whether a value is of one of the types as a run writes it: names in lists, numbers that can be computed with."""
    if isinstance(value, list):
        return list in types and all(isinstance(name, str) for name in value)
    if isinstance(value, bool) or not isinstance(value, types):
        return False
    return abs(value) < LARGEST if isinstance(value, int | float) else True


def refuse(folder: RunFolder, expected: str) -> RunFolderError:
    """The error for a file that isn't as it was written."""
    return RunFolderError(
        f"{folder.path / ROW_SCORES} is damaged", expected=expected, remedy=f"train again from {folder.config}"
    )
