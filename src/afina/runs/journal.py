"""Answers on disk as they come, so that work which was stopped goes on instead of beginning anew.

The first line holds a hash of the work; each other one a batch of answers by the places of their rows. A line that was
cut off by a kill is forgotten.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afina.errors import RunFolderError


class AnswerJournal:
    """The answers so far to the rows of one file.

    Args:
        path: of the file that holds them until all are there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_other = False
        """Whether the file held answers of other work, which are gone now."""

    def open(self, work: str) -> dict[int, str]:
        """The answers that this work has already, by place. Those of other work are thrown away.

        Raises:
            RunFolderError: if the file can't be written.
        """
        head = json.dumps({"work": work})
        try:
            lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
            self.is_other = bool(lines) and lines[0].strip() != head.encode()
            whole = [] if self.is_other else read_whole(lines[1:])
            unfinished = self.path.with_name(f"{self.path.name}.tmp")
            text = "".join([f"{head}\n", *(f"{json.dumps(batch, ensure_ascii=False)}\n" for batch in whole)])
            try:
                unfinished.write_text(text, encoding="utf-8")
                os.replace(unfinished, self.path)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise RunFolderError(f"{self.path} can't be written", found=str(error), remedy="another --output") from None
        return {int(place): answer for batch in whole for place, answer in batch.items()}

    def add(self, answers: Mapping[int, str]) -> None:
        """Keep the answers of one batch."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(answers, ensure_ascii=False) + "\n")

    def discard(self) -> None:
        """Forget them, once they stand elsewhere."""
        self.path.unlink(missing_ok=True)


def read_whole(lines: list[bytes]) -> list[dict[str, str]]:
    """The batches up to the first line that isn't whole."""
    batches = []
    for line in lines:
        batch = parse_batch(line)
        if batch is None:
            break
        batches.append(batch)
    return batches


def parse_batch(line: bytes) -> dict[str, str] | None:
    """What one line holds; None if it was cut off or isn't ours."""
    try:
        batch: Any = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    is_ours = isinstance(batch, dict) and all(
        place.isdecimal() and isinstance(answer, str) for place, answer in batch.items()
    )
    return batch if is_ours else None
