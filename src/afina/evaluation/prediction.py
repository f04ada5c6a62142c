"""What a baseline says about the test rows.

Shapes: N rows, C classes or labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["multiclass", "multilabel", "regression"]


class UntrainableError(ValueError):
    """The training part gives a baseline nothing to learn from; the message is the note of the report."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a baseline says about the test rows: probabilities (N, C) or numbers (N,)."""

    values: NDArray[np.float64]
    thresholds: NDArray[np.float64] | None = None
    """Thresholds of the labels (C,), for several labels a row only."""
    note: str = ""
    """What a reader must know, such as a cap on the training rows."""
    seconds: float | None = None
    """Seconds it took when it was trained; None where that was just now."""
