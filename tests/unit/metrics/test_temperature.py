"""The temperature is the likeliest one, and never makes surer."""

from __future__ import annotations

import numpy as np
import pytest

from afina.metrics.temperature import HIGHEST, find_temperature, measure_likelihood_loss

ROWS = 4000


def draw(sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `sharpness` times those that the labels were drawn by."""
    random = np.random.default_rng(0)
    logits_NC = random.normal(size=(ROWS, 3)) * 2
    shares_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(axis=1, keepdims=True)
    labels_N = (shares_NC.cumsum(axis=1) < random.random((ROWS, 1))).sum(axis=1)
    return logits_NC * sharpness, labels_N


def test_logits_that_are_too_sure_are_divided_by_how_much_they_are() -> None:
    logits_NC, labels_N = draw(sharpness=4.0)
    assert find_temperature(logits_NC, labels_N, np.ones(ROWS)) == pytest.approx(4.0, rel=0.06)


def test_logits_that_are_not_sure_enough_stay_as_they_are() -> None:
    logits_NC, labels_N = draw(sharpness=0.25)
    assert find_temperature(logits_NC, labels_N, np.ones(ROWS)) == 1.0


def test_a_few_rows_that_are_all_right_ask_for_nothing() -> None:
    assert find_temperature(np.eye(3) * 5, np.arange(3), np.ones(3)) == 1.0


def test_logits_that_say_nothing_become_as_even_as_they_may() -> None:
    logits_NC, labels_N = draw(sharpness=30.0)
    found = find_temperature(logits_NC, 2 - labels_N, np.ones(ROWS))
    assert 40 < found <= HIGHEST * 1.0001


def test_rows_count_by_their_weight() -> None:
    logits_NC, labels_N = np.array([[3.0, 0.0], [3.0, 0.0]]), np.array([0, 1])
    even, mostly_right = (find_temperature(logits_NC, labels_N, np.array(weights)) for weights in ([1, 1], [9, 1.0]))
    assert even > 10 * mostly_right
    # Nine rows to one: the likeliest probability is 0.9.
    assert mostly_right == pytest.approx(3.0 / np.log(9), rel=1e-3)
    assert measure_likelihood_loss(logits_NC, labels_N, np.array([1.0, 0.0]), 1.0) == pytest.approx(
        np.log1p(np.exp(-3.0))
    )
