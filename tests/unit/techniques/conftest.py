"""A few rows of a family, and the logits that a model gives for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

TEXTS = ["kettle and knife", "a", "snow in the west, willow and a low cloud"]


@pytest.fixture
def compute_logits(encode: Callable[..., Any]) -> Callable[..., Any]:
    """`compute_logits(model, family, pad_id)`: logits (3, C) of three texts, the model in evaluation mode."""
    import numpy as np
    import torch

    from afina.data.batches import collate_rows

    def build(model: Any, family: str, pad_id: int, precision: str = "fp32") -> Any:
        from afina.models.batched import autocast

        with torch.no_grad(), autocast("cpu", precision):
            return model.eval()(**collate_rows(encode(family, TEXTS), np.arange(3), pad_id)).logits.float()

    return build
