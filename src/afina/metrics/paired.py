"""Two models on the same rows: how far apart their scores are, and whether chance may explain it.

Both are scored on the same resamples of the rows, so what is common to them (easy and hard rows) drops out of the
difference: the paired percentile bootstrap (Efron and Tibshirani 1993, chapter 16). McNemar's test asks the same of
the rows that exactly one of the two got right.

Shapes: N rows, R resamples, C classes or labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afina.metrics import multilabel, regression
from afina.metrics.counts import Floats, divide, score_counts
from afina.metrics.direction import is_better_larger
from afina.metrics.intervals import PERCENTILES, Interval, draw_weights, sum_by_class
from afina.metrics.tags import RowCounts

Bools = NDArray[np.bool_]
# The exact test adds whole numbers, so it costs nothing; beyond this the approximation is equal to three digits.
MOST_DISCORDANT_EXACT = 1000
# Resamples of fewer rows say nothing: those of one row are all alike, and the interval has no width.
FEWEST_ROWS_TO_JUDGE = 10
NO_NUMBERS = np.empty(0)
TAGGED = ("entities", "tags")


@dataclass(frozen=True)
class ScoredRows:
    """What one model says of N rows, ready to be scored on any resample of them."""

    kind: str
    """multiclass, multilabel, regression, generation, entities or tags."""
    labels: NDArray[Any] = field(default_factory=lambda: NO_NUMBERS)
    """Class numbers or numbers (N,), or marks (N, C)."""
    predictions: NDArray[Any] = field(default_factory=lambda: NO_NUMBERS)
    """The same of the model."""
    losses_N: Floats = field(default_factory=lambda: NO_NUMBERS)
    """Loss of each row; empty where numbers are predicted, or nothing is asked of losses."""
    tokens_N: NDArray[Any] = field(default_factory=lambda: NO_NUMBERS)
    """Learned tokens of each row of a language model."""
    correct_N: NDArray[Any] = field(default_factory=lambda: NO_NUMBERS)
    """How many of them were the likeliest one."""
    tags: RowCounts | None = None
    """Of tagged words what is right in each row; `losses_N` are sums over the words of a row."""

    def __len__(self) -> int:
        if self.tags is not None:
            return len(self.tags)
        return len(self.losses_N if self.kind == "generation" else self.labels)

    def find_right(self) -> Bools:
        """Which rows are right altogether (N,); not for numbers and language models, where none is."""
        equal = self.labels == self.predictions
        return equal if self.kind == "multiclass" else equal.all(axis=1)

    def score(self, weights_RN: Floats) -> dict[str, Floats]:
        """Every score, each of shape (R,); `weights_RN` says how often each row stands in each resample."""
        if self.kind == "regression":
            return regression.score_resamples(self.predictions, self.labels, weights_RN)
        if self.kind == "generation":
            return self._score_tokens(weights_RN)
        if self.tags is not None:
            return {**self.tags.score(weights_RN), **self._score_losses(weights_RN, weights_RN @ self.tags.words_N)}
        scores = self._score_classes(weights_RN) if self.kind == "multiclass" else self._score_marks(weights_RN)
        return {**scores, **self._score_losses(weights_RN, weights_RN.sum(axis=1))}

    def score_by(self, metric: str, weights_RN: Floats) -> Floats:
        """One score (R,). The error of numbers comes without the ranks that others of their scores want."""
        if self.kind == "regression" and metric == "rmse":
            squares_N = (np.asarray(self.predictions, np.float64) - self.labels) ** 2
            means_R: Floats = weights_RN @ squares_N / weights_RN.sum(axis=1)
            return np.sqrt(means_R)
        return self.score(weights_RN)[metric]

    def _score_losses(self, weights_RN: Floats, counts_R: Floats) -> dict[str, Floats]:
        return {"loss": divide(weights_RN @ self.losses_N, counts_R)} if len(self.losses_N) else {}

    def _score_classes(self, weights_RN: Floats) -> dict[str, Floats]:
        classes = int(max(self.labels.max(), self.predictions.max())) + 1
        drawn_RN = np.rint(weights_RN).astype(np.int64)
        hits_RC = sum_by_class(drawn_RN * (self.labels == self.predictions), self.labels, classes)
        totals = (sum_by_class(drawn_RN, numbers_N, classes) for numbers_N in (self.labels, self.predictions))
        return score_counts(hits_RC, *totals)

    def _score_marks(self, weights_RN: Floats) -> dict[str, Floats]:
        wrong_N = (self.labels != self.predictions).mean(axis=1)
        scores = multilabel.score_predictions(self.predictions, self.labels, weights_RN)
        return {**scores, "hamming_loss": weights_RN @ wrong_N / weights_RN.sum(axis=1)}

    def _score_tokens(self, weights_RN: Floats) -> dict[str, Floats]:
        tokens_R = weights_RN @ self.tokens_N
        loss_R = divide(weights_RN @ self.losses_N, tokens_R)
        return {
            "loss": loss_R,
            "perplexity": np.exp(np.minimum(loss_R, 700.0)),
            "token_accuracy": divide(weights_RN @ self.correct_N, tokens_R),
            "loss_per_row": weights_RN @ self.losses_N / weights_RN.sum(axis=1),
        }


def score_all(rows: ScoredRows) -> dict[str, float]:
    """The scores of the rows as they are; undefined ones are left out."""
    scores = rows.score(np.ones((1, len(rows))))
    return {name: float(value_R[0]) for name, value_R in scores.items() if np.isfinite(value_R[0])}


def bootstrap_differences(
    first: ScoredRows, second: ScoredRows, resamples: int, seed: int
) -> dict[str, tuple[float, Interval]]:
    """For each score: that of `second` minus that of `first`, and the 95 % interval of this difference."""
    one, two = score_all(first), score_all(second)
    found: dict[str, list[Floats]] = {}
    for scores in draw_scores([first, second], resamples, seed):
        for name in one.keys() & two.keys():
            found.setdefault(name, []).append(scores[1][name] - scores[0][name])
    bounds = {name: np.percentile(drop_undefined(np.concatenate(each)), PERCENTILES) for name, each in found.items()}
    return {name: (two[name] - one[name], (float(bounds[name][0]), float(bounds[name][1]))) for name in bounds}


def bound_gains(
    ours: ScoredRows, others: Sequence[ScoredRows], metric: str, resamples: int, seed: int
) -> list[Interval | None]:
    """The 95 % intervals of how much better `ours` is by a metric, above 0 whichever way that runs; None where there
    are no resamples, too few rows to draw any from, or no resample in which the metric is defined.

    Accuracy is a mean of what the rows say, 1, 0 or -1, and a draw of its rows a draw of how many say what: so it
    costs the same for ten rows and for ten million.
    """
    if not resamples or len(ours) < FEWEST_ROWS_TO_JUDGE:
        return [None] * len(others)
    if ours.kind == "multiclass" and metric == "accuracy":
        return [_bound_gain_of_hits(ours.find_right(), each.find_right(), resamples, seed) for each in others]
    sign = 1 if is_better_larger(metric) else -1
    gains: list[list[Floats]] = [[] for _ in others]
    for weights_RN in draw_weights(len(ours), resamples, seed):
        mine_R = ours.score_by(metric, weights_RN)
        for place, each in enumerate(others):
            gains[place].append(sign * (mine_R - each.score_by(metric, weights_RN)))
    return [_bound(np.concatenate(each)) for each in gains]


def _bound(values_R: Floats) -> Interval | None:
    known = values_R[np.isfinite(values_R)]
    if not len(known):
        return None
    low, high = np.percentile(known, PERCENTILES)
    return float(low), float(high)


def _bound_gain_of_hits(ours_N: Bools, theirs_N: Bools, resamples: int, seed: int) -> Interval:
    rows, only_ours, only_theirs = len(ours_N), int((ours_N & ~theirs_N).sum()), int((theirs_N & ~ours_N).sum())
    shares = np.asarray([only_ours, only_theirs, rows - only_ours - only_theirs]) / rows
    drawn_R3 = np.random.default_rng(seed).multinomial(rows, shares, size=resamples)
    low, high = np.percentile((drawn_R3[:, 0] - drawn_R3[:, 1]) / rows, PERCENTILES)
    return float(low), float(high)


def draw_scores(rows: Sequence[ScoredRows], resamples: int, seed: int) -> Iterator[list[dict[str, Floats]]]:
    """Chunk by chunk the scores of several models on the same resamples of their rows."""
    for weights_RN in draw_weights(len(rows[0]), resamples, seed):
        yield [each.score(weights_RN) for each in rows]


def drop_undefined(values: Floats) -> Floats:
    """The numbers among them, or a single 0 where there is none."""
    kept = values[np.isfinite(values)]
    return kept if len(kept) else np.zeros(1)


def compare_hits(first_N: Bools, second_N: Bools) -> Mapping[str, Any]:
    """McNemar's test (1947) on which rows are right: `only_first`, `only_second`, `p` and `method`.

    Exact: of n discordant rows each falls to either side with probability 1/2. For more than `MOST_DISCORDANT_EXACT`
    rows: chi-squared with one degree of freedom and Edwards' continuity correction (1948).
    """
    only_first, only_second = int((first_N & ~second_N).sum()), int((second_N & ~first_N).sum())
    rows = only_first + only_second
    if rows <= MOST_DISCORDANT_EXACT:
        tail = sum(math.comb(rows, k) for k in range(min(only_first, only_second) + 1))
        p, method = min(1.0, 2 * tail / 2**rows), "exact binomial"
    else:
        statistic = (abs(only_first - only_second) - 1) ** 2 / rows
        p, method = math.erfc(math.sqrt(statistic / 2)), "chi-squared with continuity correction"
    return {"only_first": only_first, "only_second": only_second, "p": p, "method": method}
