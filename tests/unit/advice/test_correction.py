"""Real steps at two shapes correct a prediction that is wrong by a factor and a constant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from afina.advice.correction import Measurement, Shape, correct, find_slope
from afina.techniques.registry import make_technique


def predict(make_subject: Callable[..., Any], describe: Callable[..., Any], rows: int, tokens: int) -> Any:
    from afina.advice.costs import predict_costs

    subject = make_subject(rows=rows, tokens=tokens)
    return predict_costs(subject, make_technique("lora"), describe("lora", per_device_train_batch_size=rows))


def test_the_truth_at_the_large_shape_is_given_back(
    make_subject: Callable[..., Any], describe: Callable[..., Any]
) -> None:
    small, large = (predict(make_subject, describe, *shape) for shape in ((4, 30), (64, 120)))
    assert large.step_seconds is not None
    assert small.step_seconds is not None
    growth = large.memory.total - small.memory.total
    measured = [
        Measurement(Shape(4, 30), 10**9, 0.5 + 2 * small.step_seconds),
        Measurement(Shape(64, 120), 10**9 + int(1.5 * growth), 0.5 + 2 * large.step_seconds),
    ]
    found = correct(large, (small, large), measured)
    if growth > 0.02 * large.memory.total:
        assert found.memory.activations == pytest.approx(1.5 * large.memory.activations, rel=0.01)
    assert found.memory.total == pytest.approx(measured[1].peak_bytes, rel=0.001)
    assert found.step_seconds == pytest.approx(measured[1].step_seconds)
    assert found.durations is not None
    assert found.durations.epoch > large.durations.epoch


def test_a_line_that_would_go_down_is_replaced_by_a_factor(
    make_subject: Callable[..., Any], describe: Callable[..., Any]
) -> None:
    small, large = (predict(make_subject, describe, *shape) for shape in ((4, 30), (64, 120)))
    assert large.step_seconds is not None
    measured = [
        Measurement(Shape(4, 30), 10**9, 9.0), Measurement(Shape(64, 120), 10**9, 3 * large.step_seconds)
    ]  # fmt: skip
    assert correct(large, (small, large), measured).step_seconds == pytest.approx(3 * large.step_seconds)


def test_without_rates_only_memory_is_corrected(make_subject: Callable[..., Any], describe: Callable[..., Any]) -> None:
    small, large = (
        replace(predict(make_subject, describe, *shape), terms={}, durations=None) for shape in ((4, 30), (64, 120))
    )
    measured = [Measurement(Shape(4, 30), 10**9, 1.0), Measurement(Shape(64, 120), 2 * 10**9, 2.0)]
    found = correct(large, (small, large), measured)
    assert found.durations is None
    assert found.step_seconds is None


def test_shapes_that_are_alike_have_no_slope() -> None:
    assert find_slope(1000, 1010, 1000, 2000) == 1.0
    assert find_slope(1000, 2000, 1000, 2500) == 1.5
    assert find_slope(1000, 2000, 1000, 9000) == 3.0
    assert find_slope(1000, 2000, 2000, 1000) == 0.3
