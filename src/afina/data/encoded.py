"""A part of the data as the loop sees it: tokens, labels, and where each row came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from afina.data.encode import TokenArrays


@dataclass(frozen=True)
class EncodedPart:
    """The rows of `train`, `validation` or `test`, N of them."""

    name: str
    tokens: TokenArrays
    labels: npt.NDArray[Any]
    """Shape (N,), or (N, C) for several labels."""
    row_numbers: npt.NDArray[np.int64]
    """The row of the user's file, shape (N,); row 1 is the first."""

    def __len__(self) -> int:
        return len(self.tokens)
