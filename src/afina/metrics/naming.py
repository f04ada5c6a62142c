"""How scores are named in reports: by the part they are of, and what they measure, `test/accuracy`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def prefix_scores(part: str, scores: Mapping[str, float]) -> dict[str, float]:
    """The scores of one part by their full names."""
    return {f"{part}/{name}": value for name, value in scores.items()}


def prefix_bounds(part: str, bounds: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """The intervals of one part by their full names, as JSON has them."""
    return {f"{part}/{name}": list(pair) for name, pair in bounds.items()}
