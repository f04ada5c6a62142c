"""How sure logits are, set right: one number that divides all of them (Guo et al. 2017, arXiv 1706.04599).

Dividing changes no prediction. Shapes: N rows, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from afina.metrics.row_losses import logit_losses

# Beyond it classes are as good as equally likely.
HIGHEST = 50.0


def measure_likelihood_loss(
    logits_NC: NDArray[Any], labels_N: NDArray[Any], weights_N: NDArray[Any], temperature: float
) -> float:
    """Weighted mean of the cross-entropy in nats of `logits / temperature`."""
    losses_N = logit_losses(np.asarray(logits_NC, np.float64) / temperature, labels_N)
    return float(losses_N @ weights_N / weights_N.sum())


def find_temperature(logits_NC: NDArray[Any], labels_N: NDArray[Any], weights_N: NDArray[Any]) -> float:
    """The temperature from 1 to `HIGHEST` under which the labels are likeliest: never one that makes surer.

    A few rows that all are right would ask for certainty, and one of them wrong later cost without bound.
    """
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda power: measure_likelihood_loss(logits_NC, labels_N, weights_N, float(np.exp(power))),
        bounds=(0.0, np.log(HIGHEST)), method="bounded",
    )  # fmt: skip
    temperature = float(np.exp(found.x))
    at_one = measure_likelihood_loss(logits_NC, labels_N, weights_N, 1.0)
    return temperature if measure_likelihood_loss(logits_NC, labels_N, weights_N, temperature) < at_one else 1.0
