"""How many rows a saved model is proven on: all of a few, fewer where they are long."""

from __future__ import annotations

import numpy as np
import pytest

from afina.data.encode import TokenArrays
from afina.data.encoded import EncodedPart
from afina.pipeline.proof import FEWEST_ROWS, ROWS, TOKENS, count_rows


@pytest.mark.parametrize(
    ("lengths", "rows"),
    [
        ([10] * 3, 3),
        ([10] * 100, ROWS),
        ([TOKENS // 8] * 100, 8),
        ([TOKENS] * 100, FEWEST_ROWS),
        ([TOKENS] * 2, 2),
    ],
)
def test_long_rows_are_fewer(lengths: list[int], rows: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = TokenArrays(np.zeros(offsets[-1], np.int32), offsets, None, 0, 0)
    labels = np.zeros(len(lengths), np.int64)
    assert count_rows(EncodedPart("test", tokens, labels, np.arange(1, len(lengths) + 1))) == rows
