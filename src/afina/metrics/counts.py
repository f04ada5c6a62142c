"""Classification scores that depend on three counts a class only: hits, true rows and predicted rows.

The point score and every bootstrap resample go through the same function, so that an interval and its score
can't be two different metrics. The conventions are scikit-learn's.

Shapes: ... any leading axes (one entry a resample), C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def divide(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Quotient element by element, 0 where the denominator is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    quotient: Floats = np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)
    return quotient


def score_counts(hits_C: Ints, true_C: Ints, predicted_C: Ints) -> dict[str, Floats]:
    """Accuracy, macro F1, weighted F1 and Matthews correlation, each of the shape of the leading axes.

    Macro F1 runs over the classes that stand in the labels or in the predictions; weighted F1 weighs by true
    rows. Matthews correlation for many classes: Gorodkin 2004, (c s - t.p) / sqrt((s^2 - p.p)(s^2 - t.t)); 0
    where undefined.
    """
    f1_C = divide(2 * hits_C, true_C + predicted_C)
    present_C = (true_C + predicted_C) > 0
    rows = true_C.sum(axis=-1)
    return {
        "accuracy": divide(hits_C.sum(axis=-1), rows),
        "f1_macro": divide(f1_C.sum(axis=-1), present_C.sum(axis=-1)),
        "f1_weighted": divide((f1_C * true_C).sum(axis=-1), rows),
        "mcc": _correlate_counts(hits_C.sum(axis=-1), rows, true_C, predicted_C),
    }


def _correlate_counts(hits: Ints, rows: Ints, true_C: Ints, predicted_C: Ints) -> Floats:
    # Shares instead of counts: the squares of a few million rows would leave the exact range of a float.
    true_share_C, predicted_share_C = divide(true_C, rows[..., None]), divide(predicted_C, rows[..., None])
    above = divide(hits, rows) - (true_share_C * predicted_share_C).sum(axis=-1)
    spread_true, spread_predicted = (
        1 - (true_share_C**2).sum(axis=-1),
        1 - (predicted_share_C**2).sum(axis=-1),
    )
    # A single class on one side has a share of exactly 1 and so a spread of exactly 0.
    return divide(above, np.sqrt(spread_true * spread_predicted))
