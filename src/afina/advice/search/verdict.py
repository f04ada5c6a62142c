"""What the lead of a search's winner is worth, and whether it takes the place of the default.

The winner was chosen by the very rows that it leads on, so its lead there is flattered. Two things are said: the paired
bootstrap interval of the lead on these rows, and what is left of it when the choice is made anew in each resample and
the chosen trial is judged by the rows outside of it (bootstrap bias corrected cross-validation: Tsamardinos, Greasidou
and Borboudakis 2018, Machine Learning 107).

The default gives way where the lead is larger than its own standard error, and something is left of it in the second
way: docs/decisions/0020 says what that costs and what it saves.

Shapes: T trials, N rows, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from afina.metrics.counts import Floats
from afina.metrics.direction import is_better_larger
from afina.metrics.intervals import PERCENTILES, draw_weights
from afina.metrics.paired import FEWEST_ROWS_TO_JUDGE, ScoredRows, drop_undefined

RESAMPLES = 1000


@dataclass(frozen=True)
class Judgement:
    """A winner against the default, on the validation rows."""

    metric: str
    rows: int
    lead: float
    """How much better the winner is, above 0 whichever way the metric runs."""
    lead_interval: tuple[float, float]
    corrected_lead: float
    """Mean lead of the trial that other rows would have chosen."""
    corrected_interval: tuple[float, float]
    is_default: bool
    """Whether the winner is the default itself."""
    standard_error: float = 0.0
    """Of the lead, by the same resamples as its interval."""

    @property
    def is_clear(self) -> bool:
        """Whether the lead is larger than noise."""
        return self.rows >= FEWEST_ROWS_TO_JUDGE and self.lead_interval[0] > 0 and self.corrected_lead > 0

    @property
    def is_promoted(self) -> bool:
        """Whether the winner rather than the default is the result of the search."""
        is_ahead = self.lead > self.standard_error and self.corrected_lead > 0
        return not self.is_default and self.rows >= FEWEST_ROWS_TO_JUDGE and is_ahead

    def explain_promotion(self) -> str:
        """Why the winner is the result, or isn't."""
        if self.is_default:
            return "no trial was better on the validation rows"
        if self.rows < FEWEST_ROWS_TO_JUDGE:
            return f"{self.rows} validation rows are too few to give it up for another one"
        lead, error = f"a lead of {self.lead:.4f} {self.metric}", f"one standard error of it, {self.standard_error:.4f}"
        apart = "left where the rows that choose are not those that judge"
        if self.lead <= self.standard_error:
            return f"{lead} is within {error}"
        if self.corrected_lead <= 0:
            return f"of {lead} nothing is {apart}"
        return f"{lead} is more than {error}, and some of it is {apart}"

    def as_dict(self) -> dict[str, Any]:
        """For search.json, with the words."""
        return {
            **asdict(self), "is_clear": self.is_clear, "is_promoted": self.is_promoted, "words": str(self),
            "why_promoted": self.explain_promotion(),
        }  # fmt: skip

    def __str__(self) -> str:
        if self.is_default:
            return "No trial was better than the default configuration on the validation rows."
        low, high = self.lead_interval
        lead = (
            f"the winner leads the default by {self.lead:.4f} {self.metric} on the {self.rows:,} validation rows"
            f" (95 % interval {low:+.4f} to {high:+.4f}); {self.corrected_lead:+.4f} is left where the rows that choose"
            " are not those that judge"
        )
        if self.is_clear:
            return f"Larger than noise: {lead}."
        if self.rows < FEWEST_ROWS_TO_JUDGE:
            return f"Too few rows to judge by: {lead}. The default may be as good."
        return f"Within noise: {lead}. The default may be as good."


def bound_scores(trials: Sequence[ScoredRows], metric: str, seed: int) -> list[tuple[float, float] | None]:
    """The 95 % interval of each trial's score, all over the same resamples; None where it is undefined."""
    scores_TR = np.concatenate(
        [
            np.stack([each.score(weights_RN)[metric] for each in trials])
            for weights_RN in draw_weights(len(trials[0]), RESAMPLES, seed)
        ],
        axis=1,
    )
    return [find_bounds(values_R) if np.isfinite(values_R).any() else None for values_R in scores_TR]


def judge(trials: Sequence[ScoredRows], default: int, winner: int, metric: str, seed: int) -> Judgement:
    """The winner against the default, both given by their places among the trials."""
    sign = 1.0 if is_better_larger(metric) else -1.0
    leads, corrected = [], []
    for weights_RN in draw_weights(len(trials[0]), RESAMPLES, seed):
        inside_TR = sign * np.stack([each.score(weights_RN)[metric] for each in trials])
        leads.append(inside_TR[winner] - inside_TR[default])
        corrected.append(judge_outside(trials, weights_RN, inside_TR, default, metric) * sign)
    lead_R, corrected_R = (drop_undefined(np.concatenate(each)) for each in (leads, corrected))
    all_rows = np.ones((1, len(trials[0])))
    one, two = (float(trials[place].score(all_rows)[metric][0]) for place in (default, winner))
    return Judgement(
        metric, len(trials[0]), sign * (two - one), find_bounds(lead_R), float(corrected_R.mean()),
        find_bounds(corrected_R), winner == default, float(lead_R.std()),
    )  # fmt: skip


def judge_outside(
    trials: Sequence[ScoredRows], weights_RN: Floats, inside_TR: Floats, default: int, metric: str
) -> Floats:
    """Scores outside of each resample of the trial that is best inside of it, minus the default's, shape (R,)."""
    outside_RN = (weights_RN == 0).astype(np.float64)
    outside_RN[outside_RN.sum(axis=1) == 0] = 1.0  # no row is outside: with a few rows it happens
    outside_TR = np.stack([each.score(outside_RN)[metric] for each in trials])
    # Of equals the default is kept, as the search itself would.
    inside_TR = np.where(np.isfinite(inside_TR), inside_TR, -np.inf)
    best_R = np.where(inside_TR[default] >= inside_TR.max(axis=0), default, inside_TR.argmax(axis=0))
    chosen_R = np.take_along_axis(outside_TR, best_R[None, :], axis=0)[0]
    return chosen_R - outside_TR[default]


def find_bounds(values_R: Floats) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile."""
    low, high = np.percentile(drop_undefined(values_R), PERCENTILES)
    return float(low), float(high)
