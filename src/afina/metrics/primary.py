"""The score that a result is judged by: checkpoints, techniques and runs are compared by it, and headlines show it."""

from __future__ import annotations

from collections.abc import Mapping

PRIMARY_METRICS: Mapping[str, str] = {
    "multiclass": "accuracy", "multilabel": "f1_micro", "regression": "rmse", "generation": "loss", "entities": "f1",
    "tags": "accuracy",
}  # fmt: skip
"""By what is learned: a kind of labels, or `generation`."""
