"""Real steps at two shapes correct what arithmetic predicted.

Arithmetic knows how memory and time grow with a batch: tokens, tokens squared in attention, tokens times vocabulary in
a head. What it can't know is how well this machine does each, and what lies beside. So two numbers are fitted for
memory and two for a step's time: a factor for what grows from the small shape to the large one, and a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from afina.advice.costs import Costs
from afina.advice.duration import Durations
from afina.advice.factors import START_SECONDS

# Slopes beyond these say that the two shapes were too much alike, or that something else ran beside.
LEAST, MOST = 0.3, 3.0


@dataclass(frozen=True)
class Shape:
    """One pass."""

    rows: int
    tokens: int


@dataclass(frozen=True)
class Measurement:
    """What a few real steps of one shape took."""

    shape: Shape
    peak_bytes: int
    step_seconds: float


def correct(costs: Costs, predicted: Sequence[Costs], measured: Sequence[Measurement]) -> Costs:
    """The costs, corrected.

    Args:
        predicted: costs of runs of one batch of the small and of the large shape.
        measured: what these took.
    """
    small, large = predicted
    factor = find_slope(small.memory.total, large.memory.total, measured[0].peak_bytes, measured[1].peak_bytes)
    scaled = large.memory.correct(factor, 0)
    memory = costs.memory.correct(factor, measured[1].peak_bytes - scaled.total)
    return replace(
        costs, memory=memory, durations=correct_durations(costs, small, large, measured),
        corrected_step_seconds=correct_step(costs.step_seconds, small, large, measured),
    )  # fmt: skip


def correct_durations(costs: Costs, small: Costs, large: Costs, measured: Sequence[Measurement]) -> Durations | None:
    """The durations with every step as long as the fit says."""
    before, after = costs.step_seconds, correct_step(costs.step_seconds, small, large, measured)
    if costs.durations is None or not before or after is None:
        return costs.durations
    factor = after / before
    epoch, total = costs.durations.epoch, costs.durations.total
    return Durations(epoch * factor, START_SECONDS + max(0.0, total - START_SECONDS) * factor)


def correct_step(seconds: float | None, small: Costs, large: Costs, measured: Sequence[Measurement]) -> float | None:
    """Seconds of a step by a line through the two shapes, or through the large one alone where it would go down."""
    if seconds is None or not small.step_seconds or not large.step_seconds:
        return None
    first, last = measured[0].step_seconds, measured[1].step_seconds
    slope = (last - first) / max(large.step_seconds - small.step_seconds, 1e-9)
    start = last - slope * large.step_seconds
    if slope <= 0 or start < 0:
        return seconds * last / large.step_seconds
    return start + slope * seconds


def find_slope(small: float, large: float, small_measured: float, large_measured: float) -> float:
    """How much faster the truth grows than the prediction from one shape to the other; 1 where neither does."""
    if large - small < 0.02 * large:
        return 1.0
    return min(MOST, max(LEAST, (large_measured - small_measured) / (large - small)))
