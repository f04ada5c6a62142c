"""Targets are standardised for training and nobody outside notices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from afina.data.labels import LabelSpace
from afina.tasks.base import TaskState
from afina.tasks.text_regression import TextRegression

TASK = TextRegression(LabelSpace("regression"))
LABELS = np.asarray([100_000.0, 100_500.0, 99_000.0, 101_000.0], np.float32)


def test_the_scale_is_that_of_the_training_part() -> None:
    fit = TASK.learn_from(LABELS, "none", True)
    assert fit.target_mean == pytest.approx(LABELS.astype(float).mean())
    assert fit.target_scale == pytest.approx(LABELS.astype(float).std())


def test_a_head_without_bias_keeps_the_mean() -> None:
    fit = TASK.learn_from(LABELS, "none", False)
    assert fit.target_mean == 0.0
    assert fit.target_scale == pytest.approx(np.sqrt((LABELS.astype(float) ** 2).mean()))


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_equal_targets_have_a_scale_of_one(value: float) -> None:
    assert TASK.learn_from(np.full(5, value, np.float32), "none", True) == TaskState(
        target_mean=value, target_scale=1.0
    )


def test_the_loss_is_the_squared_error_in_standard_deviations() -> None:
    fit = TASK.learn_from(LABELS, "none", True)
    logits = torch.tensor([[0.5], [-1.0], [0.0], [2.0]])
    losses = TASK.losses(logits, torch.from_numpy(LABELS), fit)
    standard = torch.from_numpy((LABELS - fit.target_mean) / fit.target_scale).float()
    assert losses.shape == (4,)
    assert TASK.row_weights(LABELS, fit).tolist() == [1.0] * 4
    torch.testing.assert_close(losses.mean(), functional.mse_loss(logits[:, 0], standard))


def test_rescaled_logits_are_in_the_units_of_the_data() -> None:
    fit = TASK.learn_from(LABELS, "none", True)
    perfect = ((LABELS - fit.target_mean) / fit.target_scale)[:, None].astype(np.float32)
    assert float(TASK.losses(torch.from_numpy(perfect), torch.from_numpy(LABELS), fit).max()) < 1e-6
    rescaled = TASK.rescale(perfect, fit)
    np.testing.assert_allclose(rescaled[:, 0], LABELS, rtol=1e-6)
    assert TASK.score(rescaled, LABELS, TaskState())["rmse"] < 0.1
    assert TASK.score(rescaled + 10, LABELS, TaskState())[TASK.primary_metric] == pytest.approx(10, rel=1e-2)


def test_the_head_has_one_output_and_no_names() -> None:
    assert TASK.head_shape().as_config() == {"num_labels": 1, "problem_type": "regression"}


def test_predictions_errors_and_details() -> None:
    logits = np.asarray([[1.0], [2.5], [3.0]], np.float32)
    labels = np.asarray([1.0, 2.0, 5.0], np.float32)
    assert TASK.predict(logits, TaskState()) == [{"prediction": 1.0}, {"prediction": 2.5}, {"prediction": 3.0}]
    assert TASK.errors(logits, labels, TaskState(), 2) == [
        {"index": 2, "label": "5", "predicted": "3", "confidence": 2.0},
        {"index": 1, "label": "2", "predicted": "2.5", "confidence": 0.5},
    ]
    assert TASK.describe(logits, labels, TaskState()) == {"scatter": [[1.0, 1.0], [2.0, 2.5], [5.0, 3.0]]}
    fit = TaskState(target_mean=1.0)
    assert TASK.tune(logits, labels, fit) is fit


def test_intervals_hold_the_score() -> None:
    random = np.random.default_rng(0)
    labels = random.normal(size=200).astype(np.float32)
    logits = (labels + random.normal(size=200) * 0.5).astype(np.float32)[:, None]
    low, high = TASK.intervals(logits, labels, TaskState(), 200, 7)["rmse"]
    assert low < TASK.score(logits, labels, TaskState())["rmse"] < high
