"""What the second stage gives the third."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from afina.tasks.base import Floats, TaskState


@dataclass
class Learned:
    """A model that gives logits in the units of the data."""

    model: nn.Module
    state: TaskState
    logits: dict[str, Floats]
    """Of the validation part, and of the test part where it is scored."""
    parameters: str
    """How many parameters moved, in words."""
    parts: tuple[str, ...] = ("train",)
    """The parts whose rows were learned from."""
    kept_step: int | None = None
    """The optimizer step whose weights were kept; None where no steps are taken."""
    incidents: dict[str, Any] | None = None
    """What went wrong in steps, as report.json holds it; None where no steps are taken."""
    choice: dict[str, Any] | None = None
    """Evidence and outcome where the technique was chosen here; see `pipeline/choosing.py`."""
