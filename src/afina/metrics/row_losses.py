"""The loss of each row, whose mean is the `loss` of the scores.

Shapes: N rows, C classes or labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from afina.metrics.classification import SMALLEST_PROBABILITY
from afina.metrics.counts import Floats


def class_losses(probabilities_NC: Floats, labels_N: NDArray[Any]) -> Floats:
    """Negative log likelihood of the true class in nats, shape (N,)."""
    likelihood_N = probabilities_NC[np.arange(len(labels_N)), labels_N]
    return -np.log(np.clip(likelihood_N, SMALLEST_PROBABILITY, 1.0))


def logit_losses(logits_NC: NDArray[Any], labels_N: NDArray[Any]) -> Floats:
    """The same from logits, which may be as sure as they like, shape (N,)."""
    largest_N1 = logits_NC.max(axis=1, keepdims=True)
    log_sums_N = np.log(np.exp(logits_NC - largest_N1).sum(axis=1)) + largest_N1[:, 0]
    losses_N: Floats = log_sums_N - logits_NC[np.arange(len(labels_N)), labels_N]
    return losses_N


def cell_losses(probabilities_NC: Floats, labels_NC: NDArray[Any]) -> Floats:
    """Mean binary cross-entropy of a row's cells in nats, shape (N,)."""
    likelihood_NC = np.where(labels_NC == 1, probabilities_NC, 1 - probabilities_NC)
    return -np.log(np.clip(likelihood_NC, SMALLEST_PROBABILITY, 1.0)).mean(axis=1)
