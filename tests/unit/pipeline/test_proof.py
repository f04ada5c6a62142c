"""How many rows a saved model is proven on: all of a few, fewer where they are long."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from afina.data.encode import TokenArrays
from afina.data.encoded import EncodedPart
from afina.errors import ProofError
from afina.models.load import load_classifier
from afina.pipeline.proof import FEWEST_ROWS, ROWS, TOKENS, compare_logits, count_rows, measure_head


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


def test_logits_of_a_large_head_may_round_by_more(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    """Features that are nearly alike are told apart by large weights, whose terms nearly cancel out."""
    model = load_classifier(tiny_models("bert"), {"num_labels": 2}, 0).model
    with torch.no_grad():
        model.classifier.weight.fill_(0.5)
        model.classifier.bias.copy_(torch.tensor([0.0, -743.0]))
    assert measure_head(model, "fp32") == 743.0
    assert measure_head(model, "bf16") == 1.0, "a quarter of 743 would prove nothing"
    wanted, found = np.zeros((3, 2), np.float32), np.full((3, 2), 3e-4, np.float32)
    with pytest.raises(ProofError, match=r"a largest difference of 0\.0003 over 3 rows"):
        compare_logits("logits differ", wanted, found, 1e-4, tmp_path)
    assert compare_logits("logits differ", wanted, found, 1e-4, tmp_path, magnitude=743.0)[1] == pytest.approx(0.0743)
