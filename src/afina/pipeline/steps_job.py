"""What the process that takes a few real steps is told, see `measured_steps.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class StepsJob:
    """One technique, and the shapes of the batches that it is measured with."""

    base: str
    """Folder of the model."""
    technique: str
    task: str
    config: Mapping[str, Any]
    """The resolved description."""
    shapes: Sequence[tuple[int, int]]
    """Rows and tokens a row of each batch."""
    folder: str
    """For what the steps write."""
    head: Mapping[str, Any] | None
    """As for `Setup`."""
    labels: Mapping[str, Any] | None
    """A `LabelSpace`; None for a language model."""
    pad_token_id: int
    vocab_size: int
    distinct_tokens: int | None
    """Of the training rows; None for all of the vocabulary."""
    has_types: bool
    """Whether the model reads token types."""
    learned_fraction: float
    """Of the tokens of a language model's rows."""
    device: str
    precision: str

    def to_json(self) -> str:
        """The job as the other process reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> StepsJob:
        """The inverse."""
        return cls(**json.loads(text))
