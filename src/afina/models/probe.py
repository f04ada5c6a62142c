"""Solve a linear head on frozen features to its optimum, its strength and its pooling chosen by cross-validation.

Logistic regression (one for each label where there are several) minimises sum_i loss_i + |W|^2 / (2 C), ridge
regression sum_i (y_i - w x_i)^2 + alpha |w|^2, on standardised features; the standardisation is then folded into
the weights. Letters: N rows, H width, C outputs. Inverse strengths are those of
the regularisation, as scikit-learn's C: the larger, the looser the head.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from afina.config.reason import Reason
from afina.metrics.row_losses import logit_losses
from afina.models.heads import LinearHead

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

# Those to choose from, from the stiffest head to the loosest.
INVERSE_STRENGTHS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
USUAL_INVERSE_STRENGTH = 0.1
# Rows that the choice looks at; the chosen head is then solved on all of them.
ROWS_TO_CHOOSE_BY = 3000
ROWS_WORTH_THREADS = 20_000
# Words that a head is solved on where each has a tag; a seeded choice of rows where there are more.
WORDS_SOLVED = 100_000
# A pooling that the architecture's own head can't express must win by more than this many standard errors.
STANDARD_ERRORS = 1.0


@dataclass(frozen=True)
class HeadProblem:
    """What is to be solved."""

    kind: str
    """`multiclass`, `multilabel` or `regression`."""
    labels: npt.NDArray[Any]
    """Shape (N,), or (N, C) for several labels."""
    outputs: int
    """C."""
    weights_C: tuple[float, ...] = ()
    """Weight of each class, or of each label's positives."""
    seed: int = 0
    folds: int = 4

    def at(self, rows: Indices) -> HeadProblem:
        """The same problem on some of the rows."""
        return HeadProblem(self.kind, self.labels[rows], self.outputs, self.weights_C, self.seed, self.folds)


@dataclass(frozen=True)
class Solution:
    """A solved head and how it was chosen."""

    head: LinearHead
    pooling: str
    inverse_strength: float
    reasons: tuple[Reason, ...] = field(default=())


def solve(features: Mapping[str, Floats], problem: HeadProblem, biasless: frozenset[str] = frozenset()) -> Solution:
    """The best head over the given poolings; `biasless` names those whose layer has no bias to set.

    Args:
        features: arrays (N, H), one a pooling; `own` is preferred unless another one wins clearly.
    """
    sample = choose_sample(len(problem.labels), problem.seed)
    small = problem.at(sample)
    pooling, reason = choose_pooling({k: v[sample] for k, v in features.items()}, small, biasless)
    has_bias = pooling not in biasless
    losses = try_inverse_strengths(features[pooling][sample], small, has_bias)
    inverse_strength = min(losses, key=losses.__getitem__)
    shown = ", ".join(f"{s:g}: {loss:.4f}" for s, loss in losses.items())
    head = fit_head(features[pooling], problem, inverse_strength, has_bias)
    because = f"least cross-validated loss over {problem.folds} folds ({shown})"
    return Solution(head, pooling, inverse_strength, (reason, Reason("head C", inverse_strength, because)))


def choose_sample(rows: int, seed: int) -> Indices:
    """All rows, or a seeded choice of `ROWS_TO_CHOOSE_BY`."""
    if rows <= ROWS_TO_CHOOSE_BY:
        return np.arange(rows)
    return np.sort(np.random.Generator(np.random.PCG64(seed)).choice(rows, ROWS_TO_CHOOSE_BY, replace=False))


def choose_pooling(
    features: Mapping[str, Floats], problem: HeadProblem, biasless: frozenset[str]
) -> tuple[str, Reason]:
    """The pooling with the least cross-validated loss at the usual strength, `own` on a near tie."""
    if len(features) == 1:
        only = next(iter(features))
        return only, Reason("features.pooling", only, "the only one considered")
    losses = {
        name: cross_validate(array, problem, USUAL_INVERSE_STRENGTH, name not in biasless)
        for name, array in features.items()
    }
    means = {name: float(fold_losses.mean()) for name, fold_losses in losses.items()}
    best = min(means, key=means.__getitem__)
    shown = ", ".join(f"{name} {mean:.4f}" for name, mean in means.items())
    if "own" in means and best != "own":
        # Folds share their rows, so it is the difference fold by fold that is judged.
        difference = losses["own"] - losses[best]
        error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
        if means["own"] - means[best] <= STANDARD_ERRORS * error:
            return "own", Reason("features.pooling", "own", f"within noise of {best}, and an ordinary model ({shown})")
    return best, Reason("features.pooling", best, f"least cross-validated loss ({shown})")


def try_inverse_strengths(features_NH: Floats, problem: HeadProblem, has_bias: bool) -> dict[float, float]:
    """Mean held-out loss by inverse strength, from the usual one in both directions for as long as it falls."""
    losses: dict[float, float] = {}

    def measure(place: int) -> float:
        inverse_strength = INVERSE_STRENGTHS[place]
        if inverse_strength not in losses:
            losses[inverse_strength] = float(cross_validate(features_NH, problem, inverse_strength, has_bias).mean())
        return losses[inverse_strength]

    usual = INVERSE_STRENGTHS.index(USUAL_INVERSE_STRENGTH)
    for direction in (-1, 1):
        place = usual
        while 0 <= place + direction < len(INVERSE_STRENGTHS) and measure(place + direction) < measure(place):
            place += direction
        if place != usual:  # taken for a loss with one valley, in which the other direction rises
            break
    return dict(sorted(losses.items()))


def cross_validate(features_NH: Floats, problem: HeadProblem, inverse_strength: float, has_bias: bool) -> Floats:
    """Held-out loss of each fold at one inverse strength, shape (folds,)."""
    losses = []
    for train, held in split_folds(problem):
        head = fit_head(features_NH[train], problem.at(train), inverse_strength, has_bias)
        losses.append(measure_loss(head.logits(features_NH[held]), problem.labels[held], problem.kind))
    return np.asarray(losses, np.float32)


def split_folds(problem: HeadProblem) -> Iterator[tuple[Indices, Indices]]:
    """Rows to train on and rows held out, for each fold; classes are spread evenly, even those with few rows."""
    random = np.random.Generator(np.random.PCG64(problem.seed))
    order = random.permutation(len(problem.labels))
    if problem.kind == "multiclass":
        order = order[np.argsort(problem.labels[order], kind="stable")]
    fold_N = np.empty(len(order), np.int64)
    fold_N[order] = np.arange(len(order)) % problem.folds
    for fold in range(problem.folds):
        yield np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)


def fit_head(features_NH: Floats, problem: HeadProblem, inverse_strength: float, has_bias: bool) -> LinearHead:
    """The optimum at one inverse strength, on standardised features, given for the features as they are."""
    mean_H = features_NH.mean(axis=0) if has_bias else np.zeros(features_NH.shape[1], np.float32)
    scale_H = np.sqrt(((features_NH - mean_H) ** 2).mean(axis=0)) + 1e-6
    standard_NH = ((features_NH - mean_H) / scale_H).astype(np.float32)
    with warnings.catch_warnings(), one_thread(len(features_NH)):
        # A fit that stops at its last iteration is close enough to compare, and lbfgs says so with a warning.
        warnings.simplefilter("ignore")
        if problem.kind == "regression":
            weight_CH, bias_C = fit_ridge(standard_NH, problem, inverse_strength, has_bias)
        elif problem.kind == "multilabel":
            weight_CH, bias_C = fit_labels(standard_NH, problem, inverse_strength, has_bias)
        else:
            weight_CH, bias_C = fit_classes(standard_NH, problem, inverse_strength, has_bias)
    weight_CH = weight_CH / scale_H
    return LinearHead(weight_CH.astype(np.float32), (bias_C - weight_CH @ mean_H).astype(np.float32))


def one_thread(rows: int) -> Any:
    """A context in which BLAS keeps to one thread where the products are too small to share.

    Threads that wait for each other a thousand times a second cost more than they bring, and ten times as much on a
    machine that has something else to do.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1) if rows < ROWS_WORTH_THREADS else contextlib.nullcontext()


def fit_classes(standard_NH: Floats, problem: HeadProblem, inverse_strength: float, has_bias: bool) -> tuple[Any, Any]:
    """Weights (C, H) and bias (C,) of a multinomial logistic regression; classes without rows are never given."""
    from sklearn.linear_model import LogisticRegression

    present = np.unique(problem.labels)
    weights = {int(c): problem.weights_C[c] for c in present} if problem.weights_C else None
    weight_CH = np.zeros((problem.outputs, standard_NH.shape[1]))
    bias_C = np.full(problem.outputs, -20.0 if has_bias else 0.0)
    if len(present) == 1:
        bias_C[present[0]] = 0.0
        return weight_CH, bias_C
    model = LogisticRegression(C=inverse_strength, class_weight=weights, fit_intercept=has_bias, max_iter=500, tol=1e-3)
    model.fit(standard_NH, problem.labels)
    if len(present) == 2:  # one vector for two classes: give each its half
        weight_CH[present] = np.concatenate([-model.coef_, model.coef_]) / 2
        bias_C[present] = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        weight_CH[present], bias_C[present] = model.coef_, model.intercept_
    return weight_CH, bias_C


def fit_labels(standard_NH: Floats, problem: HeadProblem, inverse_strength: float, has_bias: bool) -> tuple[Any, Any]:
    """Weights (C, H) and bias (C,) of one logistic regression for each label."""
    weight_CH = np.zeros((problem.outputs, standard_NH.shape[1]))
    bias_C = np.zeros(problem.outputs)
    for label in range(problem.outputs):
        marks_N = problem.labels[:, label].astype(np.int64)
        weights = (1.0, problem.weights_C[label]) if problem.weights_C else ()
        both = HeadProblem("multiclass", marks_N, 2, weights)
        pair_2H, pair_2 = fit_classes(standard_NH, both, inverse_strength, has_bias)
        weight_CH[label], bias_C[label] = pair_2H[1] - pair_2H[0], pair_2[1] - pair_2[0]
    return weight_CH, bias_C


def fit_ridge(standard_NH: Floats, problem: HeadProblem, inverse_strength: float, has_bias: bool) -> tuple[Any, Any]:
    """Weights (1, H) and bias (1,) of a ridge regression.

    Its alpha grows with the rows, so that an inverse strength stands for the same trade-off whatever their number;
    it is 1 / C for a hundred rows.
    """
    from sklearn.linear_model import Ridge

    targets_N = problem.labels.astype(np.float64)
    alpha = len(targets_N) / (100.0 * inverse_strength)
    model = Ridge(alpha=alpha, fit_intercept=has_bias).fit(standard_NH.astype(np.float64), targets_N)
    return model.coef_.reshape(1, -1), np.reshape(model.intercept_, -1)


def measure_loss(logits_NC: Floats, labels: npt.NDArray[Any], kind: str) -> float:
    """Mean cross-entropy, mean binary cross-entropy, or mean squared error over the variance."""
    logits_NC = logits_NC.astype(np.float64)
    if kind == "regression":
        targets_N = labels.astype(np.float64)
        return float(np.mean((logits_NC[:, 0] - targets_N) ** 2) / (targets_N.var() + 1e-12))
    if kind == "multilabel":
        return float(np.mean(np.logaddexp(0.0, logits_NC) - labels * logits_NC))
    return float(np.mean(logit_losses(logits_NC, labels)))
