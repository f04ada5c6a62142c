"""Which way a score gets better."""

from __future__ import annotations

SMALLER_IS_BETTER = frozenset({
    "rmse", "mae", "loss", "loss_per_row", "brier", "calibration_error", "hamming_loss", "perplexity", "general_loss",
})  # fmt: skip


def is_better_larger(metric: str) -> bool:
    """Whether more of this score is better."""
    return metric not in SMALLER_IS_BETTER
