"""What logits stand for, as probabilities of the same dtype. Shapes: N rows, C classes or labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

LARGEST_LOGIT = 60.0
"""Beyond it a probability is 0 or 1 in fp32, and `exp` would overflow."""


def softmax(logits_NC: Floats) -> Floats:
    """Of one class among all, shape (N, C)."""
    shifted_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    probabilities_NC: Floats = shifted_NC / shifted_NC.sum(axis=1, keepdims=True)
    return probabilities_NC


def sigmoid(logits_NC: Floats) -> Floats:
    """Of each label for itself, shape (N, C)."""
    return 1 / (1 + np.exp(-np.clip(logits_NC, -LARGEST_LOGIT, LARGEST_LOGIT)))
