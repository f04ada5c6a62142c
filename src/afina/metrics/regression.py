"""Scores for one number a row.

Each score takes weights, which say how often a row stands in a resample: the point score is the resample in
which every row stands once. Ranks of equal values are their mean rank, as in scipy.

Shapes: N rows, R resamples, G groups of equal values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from afina.metrics.counts import Floats, divide


def score_regression(predictions_N: NDArray[Any], targets_N: NDArray[Any]) -> dict[str, float]:
    """Scores by name: rmse and mae in units of the target, r2, pearson, spearman.

    What is undefined is left out: r2 where the targets are constant, the correlations where either side is.
    Raises ValueError where there are no rows or the lengths differ.
    """
    predictions_N, targets_N = np.asarray(predictions_N, np.float64), np.asarray(targets_N, np.float64)
    if predictions_N.ndim != 1 or predictions_N.shape != targets_N.shape or not targets_N.size:
        raise ValueError(
            f"expected N predictions and N targets, N at least 1; "
            f"found the shapes {predictions_N.shape} and {targets_N.shape}"
        )
    scores = score_resamples(predictions_N, targets_N, np.ones((1, len(targets_N))))
    return {name: float(value_R[0]) for name, value_R in scores.items() if np.isfinite(value_R[0])}


def score_resamples(predictions_N: Floats, targets_N: Floats, weights_RN: NDArray[Any]) -> dict[str, Floats]:
    """The five scores, each of shape (R,), NaN where a score is undefined for a resample."""
    weights_RN = np.asarray(weights_RN, np.float64)
    rows_R = weights_RN.sum(axis=1)
    errors_N = predictions_N - targets_N
    squared_R = weights_RN @ errors_N**2
    ranks_p_RN, constant_p_R = rank_resamples(predictions_N, weights_RN)
    ranks_t_RN, constant_t_R = rank_resamples(targets_N, weights_RN)
    constant_R = constant_p_R | constant_t_R
    # Centred on the mean of all rows first: moments of large numbers would lose the small differences.
    centred_p_N, centred_t_N = predictions_N - predictions_N.mean(), targets_N - targets_N.mean()
    scatter_R = weights_RN @ centred_t_N**2 - divide((weights_RN @ centred_t_N) ** 2, rows_R)
    return {
        "rmse": np.sqrt(squared_R / rows_R),
        "mae": weights_RN @ np.abs(errors_N) / rows_R,
        "r2": np.where(constant_t_R, np.nan, 1 - divide(squared_R, scatter_R)),
        "pearson": np.where(constant_R, np.nan, _correlate(centred_p_N, centred_t_N, weights_RN)),
        "spearman": np.where(constant_R, np.nan, _correlate(ranks_p_RN, ranks_t_RN, weights_RN)),
    }


def rank_resamples(values_N: Floats, weights_RN: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Rank of each row within each resample (R, N), and which resamples are constant (R,).

    Equal values share their mean rank: a group of g equal rows after b smaller ones has b + (g + 1) / 2.
    """
    distinct_G, group_N = np.unique(values_N, return_inverse=True)
    order_N = np.argsort(group_N, kind="stable")
    starts_G = np.searchsorted(group_N[order_N], np.arange(len(distinct_G)))
    size_RG = np.add.reduceat(weights_RN[:, order_N], starts_G, axis=1)
    rank_RG = np.cumsum(size_RG, axis=1) - size_RG / 2 + 0.5
    return rank_RG[:, group_N], size_RG.max(axis=1) == size_RG.sum(axis=1)


def _correlate(left: Floats, right: Floats, weights_RN: Floats) -> Floats:
    """Pearson correlation within each resample, shape (R,); the sides are (N,) or (R, N)."""
    rows_R1 = weights_RN.sum(axis=1, keepdims=True)
    left_RN = left - (weights_RN * left).sum(axis=1, keepdims=True) / rows_R1
    right_RN = right - (weights_RN * right).sum(axis=1, keepdims=True) / rows_R1
    together_R = np.einsum("rn,rn,rn->r", weights_RN, left_RN, right_RN)
    left_R = np.einsum("rn,rn,rn->r", weights_RN, left_RN, left_RN)
    right_R = np.einsum("rn,rn,rn->r", weights_RN, right_RN, right_RN)
    return np.clip(divide(together_R, np.sqrt(left_R) * np.sqrt(right_R)), -1.0, 1.0)
