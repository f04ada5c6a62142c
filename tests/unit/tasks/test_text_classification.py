"""The loss is torch's own, and what is said of a row is what its logits say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from afina.data.labels import LabelSpace
from afina.tasks.base import TaskState
from afina.tasks.registry import TASKS, make_task
from afina.tasks.text_classification import LARGEST_POSITIVE_WEIGHT, TextClassification

NAMES = ("a", "b", "c")
ONE = TextClassification(LabelSpace("multiclass", NAMES))
MANY = TextClassification(LabelSpace("multilabel", NAMES))
LOGITS = np.asarray([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3], [-3.0, 4.0, 0.0], [1.0, 1.5, 1.2]], np.float32)
CLASSES = np.asarray([0, 1, 1, 2])
MARKS = np.asarray([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]], np.uint8)
WEIGHTS = (0.5, 2.0, 3.5)


def test_tasks_are_made_by_name() -> None:
    assert set(TASKS) == {"text-classification", "text-regression", "token-classification"}
    for name in TASKS:
        assert make_task(name, LabelSpace("multiclass", NAMES)).name == name


@pytest.mark.parametrize("weights", [(), WEIGHTS])
def test_the_mean_loss_is_torchs_cross_entropy(weights: tuple[float, ...]) -> None:
    fit, logits, labels = TaskState(class_weights=weights), torch.from_numpy(LOGITS), torch.from_numpy(CLASSES)
    losses = ONE.losses(logits, labels, fit)
    wanted = functional.cross_entropy(logits, labels, weight=torch.tensor(weights) if weights else None)
    assert losses.shape == (4,)
    torch.testing.assert_close(losses.sum() / float(ONE.row_weights(CLASSES, fit).sum()), wanted)


@pytest.mark.parametrize("weights", [(), WEIGHTS])
def test_the_mean_loss_of_several_labels_is_torchs(weights: tuple[float, ...]) -> None:
    fit, logits, labels = TaskState(class_weights=weights), torch.from_numpy(LOGITS), torch.from_numpy(MARKS)
    losses = MANY.losses(logits, labels, fit)
    pos_weight = torch.tensor(weights) if weights else None
    wanted = functional.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=pos_weight)
    assert losses.shape == (4,)
    torch.testing.assert_close(losses.sum() / float(MANY.row_weights(MARKS, fit).sum()), wanted)


@pytest.mark.parametrize(("task", "labels"), [(ONE, CLASSES), (MANY, MARKS)])
def test_weights_change_the_loss(task: TextClassification, labels: Any) -> None:
    arguments = torch.from_numpy(LOGITS), torch.from_numpy(labels)
    assert not torch.allclose(
        task.losses(*arguments, TaskState()), task.losses(*arguments, TaskState(class_weights=WEIGHTS))
    )


def test_losses_are_computed_in_fp32() -> None:
    rough = torch.from_numpy(LOGITS).bfloat16()
    for task, labels in ((ONE, CLASSES), (MANY, MARKS)):
        losses = task.losses(rough, torch.from_numpy(labels), TaskState())
        assert losses.dtype == torch.float32
        torch.testing.assert_close(losses, task.losses(rough.float(), torch.from_numpy(labels), TaskState()))


def test_balanced_weights_are_those_of_sklearn() -> None:
    labels = np.asarray([0] * 7 + [1] * 2 + [2])
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(ONE.learn_from(labels, "balanced", True).class_weights, wanted, atol=1e-6)
    assert ONE.learn_from(labels, "none", True) == TaskState()
    # A class without rows in training gets a number, not infinity.
    assert ONE.learn_from(np.asarray([0, 0, 1]), "balanced", True).class_weights == (0.5, 1.0, 1.0)


def test_labels_are_balanced_by_negatives_over_positives() -> None:
    marks = np.zeros((1000, 3), np.uint8)
    marks[:250, 0], marks[:1, 1], marks[:, 2] = 1, 1, 1
    assert MANY.learn_from(marks, "balanced", True).class_weights == (3.0, LARGEST_POSITIVE_WEIGHT, 0.01)


@pytest.mark.parametrize(
    ("task", "problem_type"), [(ONE, "single_label_classification"), (MANY, "multi_label_classification")]
)
def test_the_head_has_an_output_for_each_name(task: TextClassification, problem_type: str) -> None:
    assert task.head_shape().as_config() == {
        "num_labels": 3, "problem_type": problem_type, "id2label": {0: "a", 1: "b", 2: "c"},
        "label2id": {"a": 0, "b": 1, "c": 2},
    }  # fmt: skip


def test_probabilities_are_torchs_even_at_the_ends() -> None:
    logits = np.concatenate([LOGITS, [[1e4, -1e4, 0.0]]]).astype(np.float32)
    np.testing.assert_allclose(ONE.probabilities(logits), torch.from_numpy(logits).softmax(1).numpy(), rtol=1e-5)
    wanted = torch.from_numpy(logits).sigmoid().numpy()
    np.testing.assert_allclose(MANY.probabilities(logits), wanted, rtol=1e-5, atol=1e-6)


def test_a_prediction_is_the_likeliest_class() -> None:
    predictions = ONE.predict(LOGITS, TaskState())
    assert [row["prediction"] for row in predictions] == ["a", "c", "b", "b"]
    for row, probabilities in zip(predictions, ONE.probabilities(LOGITS), strict=True):
        assert row["probabilities"] == dict(zip(NAMES, probabilities.tolist(), strict=True))
    json.dumps(predictions)


def test_labels_are_given_from_their_thresholds_on() -> None:
    half = [row["prediction"] for row in MANY.predict(LOGITS, TaskState())]
    assert half == [["a", "b"], ["a", "b", "c"], ["b", "c"], ["a", "b", "c"]]
    strict = [row["prediction"] for row in MANY.predict(LOGITS, TaskState(thresholds=(0.8, 0.99, 0.5)))]
    assert strict == [["a"], ["c"], ["c"], ["c"]]
    assert MANY.predict(-np.ones((1, 3), np.float32), TaskState())[0]["prediction"] == []


def test_errors_are_wrong_rows_the_surest_first() -> None:
    labels = np.asarray([1, 2, 0, 0])
    probabilities = ONE.probabilities(LOGITS)
    found = ONE.errors(LOGITS, labels, TaskState(), 10)
    assert found == [
        {"index": 2, "label": "a", "predicted": "b", "confidence": float(probabilities[2, 1])},
        {"index": 0, "label": "b", "predicted": "a", "confidence": float(probabilities[0, 0])},
        {"index": 3, "label": "a", "predicted": "b", "confidence": float(probabilities[3, 1])},
    ]
    assert ONE.errors(LOGITS, labels, TaskState(), 1) == found[:1]
    assert ONE.errors(LOGITS, labels, TaskState(), 0) == []
    assert ONE.errors(LOGITS, np.asarray([0, 2, 1, 1]), TaskState(), 10) == []


def test_errors_of_several_labels_are_sure_where_they_are_wrong() -> None:
    marks = np.asarray([[1, 1, 0], [1, 1, 1], [0, 0, 1], [0, 1, 1]], np.uint8)
    found = MANY.errors(LOGITS, marks, TaskState(), 10)
    probabilities = MANY.probabilities(LOGITS)
    assert found == [
        {"index": 2, "label": "c", "predicted": "b, c", "confidence": pytest.approx(float(probabilities[2, 1]))},
        {"index": 3, "label": "b, c", "predicted": "a, b, c", "confidence": pytest.approx(float(probabilities[3, 0]))},
    ]
    nothing = MANY.errors(-np.ones((1, 3), np.float32), np.asarray([[1, 0, 0]], np.uint8), TaskState(), 1)
    assert (nothing[0]["label"], nothing[0]["predicted"]) == ("a", "-")


def test_thresholds_are_tuned_for_several_labels_only() -> None:
    fit = TaskState(class_weights=WEIGHTS)
    assert ONE.tune(LOGITS, CLASSES, fit) is fit
    random = np.random.default_rng(0)
    marks = (random.random((200, 3)) < 0.2).astype(np.uint8)
    logits = (marks.astype(float) * 2 - 3 + random.normal(size=(200, 3))).astype(np.float32)
    tuned = MANY.tune(logits, marks, fit)
    assert tuned.class_weights == WEIGHTS
    assert len(tuned.thresholds) == 3
    # These logits are all too low, so 0.5 is too high a threshold.
    assert max(tuned.thresholds) < 0.5
    assert MANY.score(logits, marks, tuned)["f1_micro"] > MANY.score(logits, marks, fit)["f1_micro"] + 0.05


def test_scores_hold_the_main_one() -> None:
    assert ONE.score(LOGITS, CLASSES, TaskState())[ONE.primary_metric] == 0.5
    assert 0 < MANY.score(LOGITS, MARKS, TaskState())[MANY.primary_metric] < 1
    assert ONE.rescale(LOGITS, TaskState()) is LOGITS


def test_intervals_hold_the_score_and_the_seed_decides() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200)
    logits = (np.eye(3)[labels] * 2 + random.normal(size=(200, 3))).astype(np.float32)
    low, high = ONE.intervals(logits, labels, TaskState(), 200, 7)["accuracy"]
    assert low < ONE.score(logits, labels, TaskState())["accuracy"] < high
    assert ONE.intervals(logits, labels, TaskState(), 200, 7) == ONE.intervals(logits, labels, TaskState(), 200, 7)
    assert ONE.intervals(logits, labels, TaskState(), 200, 8) != ONE.intervals(logits, labels, TaskState(), 200, 7)


def test_details_name_the_classes() -> None:
    found = ONE.describe(LOGITS, CLASSES, TaskState())
    assert [row["name"] for row in found["per_class"]] == list(NAMES)
    assert found["confusion"] == {"names": list(NAMES), "counts": [[1, 0, 0], [0, 1, 1], [0, 1, 0]]}
    assert [row["name"] for row in MANY.describe(LOGITS, MARKS, TaskState())["per_class"]] == list(NAMES)
    json.dumps(found)


def test_a_fit_comes_back_from_json() -> None:
    fit = TaskState((1.0, 2.0), 3.0, 4.0, (0.1, 0.2))
    assert TaskState.from_dict(json.loads(json.dumps(fit.as_dict()))) == fit
