"""Numbers as a reader wants them, and the plain names of scores and baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MISSING = "–"

METRIC_NAMES = {
    "accuracy": "Accuracy",
    "f1_macro": "F1, macro",
    "f1_micro": "F1, micro",
    "f1_weighted": "F1, weighted",
    "mcc": "Matthews correlation",
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
    "subset_accuracy": "Subset accuracy",
    "hamming_loss": "Hamming loss",
    "loss": "Loss",
    "calibration_error": "Calibration error",
    "brier": "Brier score",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
}
METRIC_MEANINGS = {
    "accuracy": "share of rows with the right class",
    "f1_macro": "mean of the classes' F1, each class counts the same",
    "f1_micro": "F1 over all labels of all rows together",
    "f1_weighted": "mean of the classes' F1, weighted by their rows",
    "mcc": "0 is chance, 1 is perfect",
    "roc_auc": "chance that a positive row ranks above a negative one",
    "average_precision": "area under precision and recall",
    "subset_accuracy": "share of rows with every label right",
    "hamming_loss": "share of single labels that are wrong",
    "loss": "mean negative log likelihood, in nats",
    "calibration_error": "how far confidence is from accuracy",
    "brier": "mean squared error of the probabilities, 0 to 2",
    "rmse": "root of the mean squared error, in units of the target",
    "mae": "mean absolute error, in units of the target",
    "r2": "share of the variance explained",
    "pearson": "linear agreement with the target",
    "spearman": "agreement in order with the target",
}
LOWER_IS_BETTER = frozenset({"hamming_loss", "loss", "calibration_error", "brier", "rmse", "mae"})
BASELINE_NAMES = {
    "majority": "most frequent class",
    "mean": "mean of the training rows",
    "tfidf-linear": "TF-IDF + linear",
}
TECHNIQUE_NAMES = {
    "full": "full fine-tuning",
    "feature-extraction": "feature extraction",
    "lora": "LoRA",
    "qlora": "QLoRA",
}


def is_number(value: Any) -> bool:
    """Whether the value is a finite number; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def format_score(value: Any) -> str:
    """`0.913`, `12.4`, `-0.020`: three decimals below ten, and a dash where there is no finite number."""
    if not is_number(value):
        return MISSING
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"
    return text.replace("-0.000", "0.000")


def format_interval(bounds: Any) -> str:
    """`0.901 to 0.925`, or nothing where the bounds are no pair of finite numbers."""
    pair = read_interval(bounds)
    return f"{format_score(pair[0])} to {format_score(pair[1])}" if pair else ""


def read_interval(bounds: Any) -> tuple[float, float] | None:
    """The two bounds as numbers, or None."""
    if isinstance(bounds, list | tuple) and len(bounds) == 2 and all(map(is_number, bounds)):
        return float(bounds[0]), float(bounds[1])
    return None


def format_count(value: Any) -> str:
    """`29,794`, or the value as it is where it is no number."""
    return f"{value:,}" if is_number(value) else MISSING if value is None else str(value)


def format_share(part: Any, whole: Any) -> str:
    """`12 %`, `0.31 %`, or nothing where there is no whole."""
    if not is_number(part) or not is_number(whole) or not whole:
        return ""
    percent = 100 * part / whole
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"


def format_seconds(value: Any) -> str:
    """`0.4 s`, `42 s`, `3 min 20 s`, `2 h 05 min`."""
    if not is_number(value):
        return MISSING
    if value < 9.95:
        return f"{value:.1f} s"
    seconds = round(value)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"


def format_bytes(value: Any) -> str:
    """`812 MB`, `1.4 GB`: powers of ten."""
    if not is_number(value):
        return MISSING
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}" if value < 10 * size else f"{value / size:,.0f} {unit}"
    return f"{value:,.0f} bytes"


def name_metric(metric: str) -> str:
    """The plain name of a score; one that is not known keeps its key."""
    return METRIC_NAMES.get(metric, metric)


def name_baseline(name: str) -> str:
    """The plain name of a baseline; one that is not known keeps its key."""
    return BASELINE_NAMES.get(name, name)


def flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Pairs (dotted key, value as text) of a nested mapping, in its order."""
    pairs: list[tuple[str, str]] = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            pairs.extend(flatten_settings(value, f"{name}."))
        elif isinstance(value, list | tuple):
            pairs.append((name, ", ".join(map(str, value))))
        else:
            pairs.append((name, "none" if value is None else str(value)))
    return pairs
