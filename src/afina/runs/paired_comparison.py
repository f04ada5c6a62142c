"""One run against another on the rows that both scored: how far apart, whether by more than chance, at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from afina.metrics.direction import is_better_larger
from afina.metrics.paired import FEWEST_ROWS_TO_JUDGE, ScoredRows, bootstrap_differences, compare_hits
from afina.runs.folder import RunFolder
from afina.runs.pairing import Matched, match_rows

RESAMPLES = 2000
SEED = 0
# Scores between 0 and 1 are spoken of in points, a hundredth each; losses and errors have no such scale.
POINT = 0.01
OPEN_SCALE = frozenset({"rmse", "mae", "loss", "loss_per_row", "perplexity"})

Report = Mapping[str, Any]


def compare_pair(
    first: RunFolder, first_report: Report, second: RunFolder, second_report: Report, part: str
) -> dict[str, Any] | None:
    """`second` against `first`, or None where they share no scored row or keep no scores by row.

    `run`, `against`, `rows` (shared), `metric`, `differences` (score -> `difference`, `interval`), `mcnemar` (for rows
    that are right or wrong), `cost`, `verdict` and `notes`.
    """
    kind = str(first_report.get("kind"))
    matched = match_rows([first, second], part, kind) if kind == second_report.get("kind") else None
    if matched is None:
        return None
    one, two = matched.rows
    metric = choose_metric(str(first_report["primary_metric"]), one, two)
    found = bootstrap_differences(one, two, RESAMPLES, SEED)
    if metric == "loss_per_row":
        found = {metric: found[metric]}
    difference, interval = found[metric]
    has_hits = kind in ("multiclass", "multilabel")
    return {
        "run": second_report["run"],
        "against": first_report["run"],
        "rows": matched.shared,
        "metric": metric,
        "differences": {name: {"difference": d, "interval": list(bounds)} for name, (d, bounds) in found.items()},
        "mcnemar": compare_hits(one.find_right(), two.find_right()) if has_hits else None,
        "cost": describe_cost(first_report, second_report, metric, difference if can_judge(matched.shared) else None),
        "verdict": write_verdict(metric, difference, interval, matched.shared),
        "notes": list_notes(matched, metric, part),
    }


def can_judge(rows: int) -> bool:
    """Whether so many shared rows can tell a difference from chance."""
    return rows >= FEWEST_ROWS_TO_JUDGE


def choose_metric(primary: str, one: ScoredRows, two: ScoredRows) -> str:
    """The score that decides. Models that cut a text into other tokens have no common loss by token, but one by row."""
    if one.kind == "generation" and not np.array_equal(one.tokens_N, two.tokens_N):
        return "loss_per_row"
    return primary


def list_notes(matched: Matched, metric: str, part: str) -> list[str]:
    """What a reader must know of the rows."""
    notes = []
    if not matched.is_whole:
        counts = " and ".join(f"{count:,}" for count in matched.row_counts)
        notes.append(
            f"the runs scored different {part} rows ({counts}); the difference is over the {matched.shared:,} that both"
            " have, the scores above over all rows of each run"
        )
    if metric == "loss_per_row":
        notes.append("the models count tokens differently, so the loss is compared by row, not by token")
    return notes


def write_verdict(metric: str, difference: float, interval: Sequence[float], rows: int) -> str:
    """One sentence on the second run, as seen from the first."""
    if not can_judge(rows):
        counted = "1 row" if rows == 1 else f"{rows} rows"
        return f"not judged: both scored the same {counted}, and it takes {FEWEST_ROWS_TO_JUDGE} to judge by"
    low, high = interval
    gain = difference if is_better_larger(metric) else -difference
    bounds = f"95 % interval of the difference {low:+.3f} to {high:+.3f}, on the same {rows:,} rows"
    if low <= 0 <= high:
        if difference == 0:
            return f"no difference in {metric} ({bounds})"
        word = "better" if gain > 0 else "worse"
        return f"{abs(difference):.3f} {metric} {word}, which chance may explain ({bounds})"
    word = "better" if gain > 0 else "worse"
    return f"{abs(difference):.3f} {metric} {word}, more than chance explains ({bounds})"


def describe_cost(first: Report, second: Report, metric: str, difference: float | None) -> dict[str, Any]:
    """What the second run takes more than the first: `seconds`, `bytes`, and each by `unit` gained (None: no gain).

    Without a `difference`, where it wasn't judged, `gained` is None too."""
    seconds = second["duration_seconds"] - first["duration_seconds"]
    memory_bytes = second["peak_memory_bytes"] - first["peak_memory_bytes"]
    unit_size, unit = (1.0, metric) if metric in OPEN_SCALE else (POINT, f"point of {metric}")
    gained = None if difference is None else (difference if is_better_larger(metric) else -difference) / unit_size
    return {
        "seconds": seconds,
        "bytes": memory_bytes,
        "unit": unit,
        "gained": gained,
        "seconds_per_unit": seconds / gained if gained and gained > 0 else None,
        "bytes_per_unit": memory_bytes / gained if gained and gained > 0 else None,
    }
