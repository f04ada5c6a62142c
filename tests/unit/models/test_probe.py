"""The head is the optimum that sklearn finds with plain settings, chosen by honest folds, the same every time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss

from afina.models import probe
from afina.models.heads import LinearHead
from afina.models.probe import (
    INVERSE_STRENGTHS,
    HeadProblem,
    choose_pooling,
    cross_validate,
    fit_head,
    measure_loss,
    solve,
)

ROWS, WIDTH = 120, 6
RANDOM = np.random.default_rng(0)
# Features far from standard: what is folded into the weights must not show.
FEATURES = (RANDOM.normal(size=(ROWS, WIDTH)) * [1, 5, 0.1, 1, 30, 1] + [0, 100, 3, -8, 0, 1]).astype(np.float32)
STANDARD = (FEATURES - FEATURES.mean(0)) / FEATURES.std(0)
SIGNAL = STANDARD @ RANDOM.normal(size=(WIDTH, 3)) + RANDOM.normal(size=(ROWS, 3)) + [0.5, 0, -0.5]
CLASSES = SIGNAL.argmax(1)
MARKS = (SIGNAL > 0.3).astype(np.uint8)
TARGETS = (SIGNAL[:, 0] * 7 + 50).astype(np.float32)


def fit_plainly(features: Any, labels: Any, inverse_strength: float, bias: bool = True, weights: Any = None) -> Any:
    return LogisticRegression(
        C=inverse_strength, fit_intercept=bias, class_weight=weights, tol=1e-8, max_iter=10_000
    ).fit(features, labels)


@pytest.mark.parametrize("weights", [(), (0.5, 1.0, 4.0)])
@pytest.mark.parametrize("inverse_strength", [0.01, 1.0])
def test_classes(inverse_strength: float, weights: tuple[float, ...]) -> None:
    head = fit_head(FEATURES, HeadProblem("multiclass", CLASSES, 3, weights), inverse_strength, True)
    plain = fit_plainly(STANDARD, CLASSES, inverse_strength, weights=dict(enumerate(weights)) or None)
    np.testing.assert_allclose(softmax(head.logits(FEATURES), axis=1), plain.predict_proba(STANDARD), atol=1e-2)


def test_weights_and_strength_matter() -> None:
    def give(inverse_strength: float, weights: tuple[float, ...]) -> Any:
        head = fit_head(FEATURES, HeadProblem("multiclass", CLASSES, 3, weights), inverse_strength, True)
        return softmax(head.logits(FEATURES), axis=1)

    assert np.abs(give(1.0, ()) - give(1.0, (0.5, 1.0, 4.0))).max() > 0.1
    assert np.abs(give(1.0, ()) - give(0.01, ())).max() > 0.1


def test_two_classes() -> None:
    labels = (CLASSES == 1).astype(int)
    head = fit_head(FEATURES, HeadProblem("multiclass", labels, 2), 0.1, True)
    plain = fit_plainly(STANDARD, labels, 0.1)
    np.testing.assert_allclose(softmax(head.logits(FEATURES), axis=1), plain.predict_proba(STANDARD), atol=5e-3)


def test_a_class_without_rows_is_never_given() -> None:
    head = fit_head(FEATURES, HeadProblem("multiclass", CLASSES * 2, 6, (1.0,) * 6), 0.1, True)
    probabilities = softmax(head.logits(FEATURES), axis=1)
    assert probabilities[:, [1, 3, 5]].max() < 1e-3
    plain = fit_plainly(STANDARD, CLASSES, 0.1)
    np.testing.assert_allclose(probabilities[:, [0, 2, 4]], plain.predict_proba(STANDARD), atol=5e-3)


@pytest.mark.parametrize("bias", [True, False])
def test_one_class_alone_is_given_where_a_bias_can_say_so(bias: bool) -> None:
    head = fit_head(FEATURES, HeadProblem("multiclass", np.ones(ROWS, int), 3), 0.1, bias)
    assert not head.weight_CH.any()
    assert head.bias_C.tolist() == ([-20.0, 0.0, -20.0] if bias else [0.0, 0.0, 0.0])


@pytest.mark.parametrize("outputs", [2, 3])
def test_without_a_bias(outputs: int) -> None:
    labels = CLASSES % outputs
    scale = np.sqrt((FEATURES**2).mean(0))
    head = fit_head(FEATURES, HeadProblem("multiclass", labels, outputs), 0.1, False)
    assert not head.bias_C.any()
    plain = fit_plainly(FEATURES / scale, labels, 0.1, bias=False)
    found = softmax(head.logits(FEATURES), axis=1)
    np.testing.assert_allclose(found, plain.predict_proba(FEATURES / scale), atol=1e-2)


@pytest.mark.parametrize("weights", [(), (3.0, 1.0, 0.2)])
def test_several_labels(weights: tuple[float, ...]) -> None:
    head = fit_head(FEATURES, HeadProblem("multilabel", MARKS, 3, weights), 0.1, True)
    found = expit(head.logits(FEATURES))
    for label in range(3):
        balance = {0: 1.0, 1: weights[label]} if weights else None
        plain = fit_plainly(STANDARD, MARKS[:, label], 0.1, weights=balance)
        np.testing.assert_allclose(found[:, label], plain.predict_proba(STANDARD)[:, 1], atol=5e-3)


def test_a_label_that_all_or_no_rows_have() -> None:
    marks = np.stack([np.zeros(ROWS), np.ones(ROWS), MARKS[:, 0]], axis=1).astype(np.uint8)
    probabilities = expit(fit_head(FEATURES, HeadProblem("multilabel", marks, 3), 0.1, True).logits(FEATURES))
    assert probabilities[:, 0].max() < 1e-6
    assert probabilities[:, 1].min() > 1 - 1e-6
    assert 0.2 < probabilities[:, 2].mean() < 0.8


@pytest.mark.parametrize("bias", [True, False])
def test_numbers(bias: bool) -> None:
    shift = FEATURES.mean(0) if bias else 0
    standard = (FEATURES - shift) / np.sqrt(((FEATURES - shift) ** 2).mean(0))
    head = fit_head(FEATURES, HeadProblem("regression", TARGETS, 1), 0.1, bias)
    plain = Ridge(alpha=ROWS / (100 * 0.1), fit_intercept=bias).fit(standard.astype(float), TARGETS)
    np.testing.assert_allclose(head.logits(FEATURES)[:, 0], plain.predict(standard), rtol=1e-3, atol=1e-3)
    assert head.bias_C.any() == bias


@pytest.mark.parametrize("folds", [2, 4, 7])
@pytest.mark.parametrize(("kind", "labels"), [("multiclass", CLASSES), ("regression", TARGETS), ("multilabel", MARKS)])
def test_each_row_is_held_out_once(kind: str, labels: Any, folds: int) -> None:
    parts = list(probe.split_folds(HeadProblem(kind, labels, 3, folds=folds)))
    assert len(parts) == folds
    assert sorted(row for _, held in parts for row in held.tolist()) == list(range(ROWS))
    for train, held in parts:
        assert sorted([*train, *held]) == list(range(ROWS))
        assert abs(len(held) - ROWS / folds) < 1
    if kind == "multiclass":
        counts = np.stack([np.bincount(labels[held], minlength=3) for _, held in parts])
        assert np.ptp(counts, axis=0).max() <= 1


def test_folds_follow_the_seed() -> None:
    held = [
        tuple(map(tuple, (fold for _, fold in probe.split_folds(HeadProblem("multiclass", CLASSES, 3, seed=seed)))))
        for seed in (0, 0, 1)
    ]
    assert held[0] == held[1] != held[2]


def test_a_class_with_fewer_rows_than_folds_is_still_measured() -> None:
    labels = np.asarray([0] * 60 + [1] * 58 + [2] * 2)
    losses = cross_validate(FEATURES, HeadProblem("multiclass", labels, 3, folds=4), 0.1, True)
    assert losses.shape == (4,)
    assert np.isfinite(losses).all()


def test_held_out_losses_are_of_rows_the_head_has_not_seen() -> None:
    noise = np.random.default_rng(1).integers(0, 2, ROWS)
    held = cross_validate(FEATURES, HeadProblem("multiclass", noise, 2), 10.0, True).mean()
    seen = fit_head(FEATURES, HeadProblem("multiclass", noise, 2), 10.0, True).logits(FEATURES)
    assert held > np.log(2) > measure_loss(seen, noise, "multiclass")


def test_losses_are_sklearns() -> None:
    logits = SIGNAL.astype(np.float32)
    wanted = log_loss(CLASSES, softmax(logits.astype(float), axis=1))
    assert measure_loss(logits, CLASSES, "multiclass") == pytest.approx(wanted)
    wanted = np.mean([log_loss(MARKS[:, i], expit(logits[:, i].astype(float)), labels=[0, 1]) for i in range(3)])
    assert measure_loss(logits, MARKS, "multilabel") == pytest.approx(wanted)
    mean = np.full((ROWS, 1), TARGETS.mean())
    assert measure_loss(mean, TARGETS, "regression") == pytest.approx(1.0)
    assert measure_loss(logits * 1e4, CLASSES, "multiclass") >= 0


def test_own_is_taken_on_a_tie_and_left_for_a_clear_winner() -> None:
    problem = HeadProblem("multiclass", CLASSES, 3)
    noise = np.random.default_rng(2).normal(size=FEATURES.shape).astype(np.float32)
    tie = {"own": FEATURES, "mean": FEATURES + 1e-4 * noise}
    assert choose_pooling(tie, problem, frozenset())[0] == "own"
    name, reason = choose_pooling({"own": noise, "mean": FEATURES, "first": noise}, problem, frozenset())
    assert name == reason.value == "mean"
    assert reason.setting == "features.pooling"
    assert reason.reason.startswith("least cross-validated loss (own ")
    assert choose_pooling({"mean": FEATURES}, problem, frozenset())[0] == "mean"


def test_a_slightly_better_pooling_is_within_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    # The folds agree, or they don't: the mean difference is the same.
    own = np.asarray([1.0, 1.2, 0.8, 1.0], np.float32)
    gains = {"agreed": np.full(4, 0.05), "noisy": np.asarray([0.35, -0.2, 0.1, -0.05])}
    problem = HeadProblem("multiclass", CLASSES, 3)
    chosen = {}
    for name, gain in gains.items():
        losses = iter([own, (own - gain).astype(np.float32)])
        monkeypatch.setattr(probe, "cross_validate", lambda *args, losses=losses: next(losses))
        chosen[name], reason = choose_pooling({"own": FEATURES, "mean": FEATURES}, problem, frozenset())
    assert chosen == {"agreed": "mean", "noisy": "own"}
    assert reason.reason == "within noise of mean, and an ordinary model (own 1.0000, mean 0.9500)"


def test_a_strength_is_sought_where_the_loss_falls() -> None:
    noise = np.random.default_rng(1).integers(0, 2, ROWS)
    losses = probe.try_inverse_strengths(FEATURES, HeadProblem("multiclass", noise, 2), True)
    assert list(losses) == sorted(losses)
    assert set(losses) <= set(INVERSE_STRENGTHS)
    assert min(losses, key=losses.__getitem__) < probe.USUAL_INVERSE_STRENGTH  # noise is best hardly fitted
    easy = np.tile(np.eye(2), (ROWS // 2, 3)).astype(np.float32)
    losses = probe.try_inverse_strengths(easy, HeadProblem("multiclass", np.tile([0, 1], ROWS // 2), 2), True)
    assert min(losses, key=losses.__getitem__) == INVERSE_STRENGTHS[-1]


@pytest.mark.parametrize(
    ("kind", "labels", "outputs"), [("multiclass", CLASSES, 3), ("multilabel", MARKS, 3), ("regression", TARGETS, 1)]
)
def test_the_same_problem_has_the_same_solution(kind: str, labels: Any, outputs: int) -> None:
    features = {"own": FEATURES[:, :3], "mean": FEATURES}
    problem = HeadProblem(kind, labels, outputs, seed=5)
    first, second = solve(features, problem), solve(features, problem)
    np.testing.assert_array_equal(first.head.weight_CH, second.head.weight_CH)
    np.testing.assert_array_equal(first.head.bias_C, second.head.bias_C)
    assert (first.pooling, first.inverse_strength, first.reasons) == (
        second.pooling,
        second.inverse_strength,
        second.reasons,
    )
    assert [reason.setting for reason in first.reasons] == ["features.pooling", "head C"]
    assert first.head.weight_CH.shape == (outputs, features[first.pooling].shape[1])
    assert first.head.weight_CH.dtype == first.head.bias_C.dtype == np.float32
    baseline = LinearHead(np.zeros_like(first.head.weight_CH), np.full(outputs, labels.mean(), np.float32))
    loss, worse = (measure_loss(head.logits(features[first.pooling]), labels, kind) for head in (first.head, baseline))
    assert loss < 0.8 * worse


def test_a_layer_without_bias_gets_a_head_without_bias() -> None:
    problem = HeadProblem("multiclass", CLASSES, 3)
    solution = solve({"own": FEATURES}, problem, frozenset({"own"}))
    assert not solution.head.bias_C.any()
    assert solve({"own": FEATURES}, problem).head.bias_C.any()


def test_the_choice_looks_at_some_rows_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ROWS_TO_CHOOSE_BY", 50)
    sample = probe.choose_sample(ROWS, 0)
    assert len(sample) == len(set(sample.tolist())) == 50
    assert sample.tolist() == sorted(sample.tolist()) == probe.choose_sample(ROWS, 0).tolist()
    assert sample.tolist() != probe.choose_sample(ROWS, 1).tolist()
    assert probe.choose_sample(50, 0).tolist() == list(range(50))
    # The chosen head is then solved on all rows.
    solution = solve({"own": FEATURES}, HeadProblem("multiclass", CLASSES, 3))
    whole = fit_head(FEATURES, HeadProblem("multiclass", CLASSES, 3), solution.inverse_strength, True)
    np.testing.assert_array_equal(solution.head.weight_CH, whole.weight_CH)
