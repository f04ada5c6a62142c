"""row_scores.jsonl: what a run says of each held-out row, so that runs can be compared row by row.

A line holds `part`, `row` (its number in the user's data), `key` (a hash of its content, whichever file it stands in),
and for rows with a label `label`, `prediction` and, for classes, `loss`; for a language model the summed `loss` of the
row's `tokens`, and how many of them were `correct`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from afina.errors import RunFolderError
from afina.runs.folder import RunFolder

NAME = "row_scores.jsonl"


def hash_content(content: Any) -> str:
    """A key of 16 hexadecimal digits for a row's content: texts and label, or messages."""
    text = json.dumps(content, ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def write_row_scores(folder: RunFolder, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write all lines whole: under another name, then renamed."""
    unfinished = folder.path / f".{NAME}.tmp"
    with open(unfinished, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    os.replace(unfinished, folder.path / NAME)


def read_row_scores(folder: RunFolder, part: str) -> dict[tuple[str, int], dict[str, Any]]:
    """The lines of one part by key; equal rows are told apart by a number, in their order. Empty for an older run.

    Raises:
        RunFolderError: if the file is damaged.
    """
    path = folder.path / NAME
    if not path.is_file():
        return {}
    seen: Counter[str] = Counter()
    found = {}
    try:
        with open(path, encoding="utf-8") as file:
            for line in map(json.loads, file):
                if line["part"] == part:
                    found[line["key"], seen[line["key"]]] = line
                    seen[line["key"]] += 1
    except (OSError, ValueError, KeyError, TypeError):
        raise RunFolderError(
            f"{path} is damaged", expected="one JSON object a line", remedy=f"train again from {folder.config}"
        ) from None
    return found
