"""Choices that a user has to know of: told, and where the model is used without afina, in its card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import afina
from afina.pipeline import learn
from afina.testing.data import make_rows

QUICK: dict[str, Any] = {"verbose": False, "baselines": False, "bootstrap_resamples": 0, "precision": "fp32"}


def test_thresholds_of_labels_are_told(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    rows = make_rows("multilabel", 80)
    run = afina.fit(tiny_models("bert"), rows, "feature-extraction", output=tmp_path / "run", **QUICK)
    (reason,) = [each for each in run.reasons if each["setting"] == "thresholds"]
    assert "kitchen 0." in reason["value"]
    card = (run.path / "README.md").read_text(encoding="utf-8")
    assert f"A label is given from these probabilities on: {reason['value']}." in card


def test_weights_of_classes_that_numbers_have_not_are_told(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    rows, model = make_rows("regression", 40), tiny_models("bert")
    run = afina.fit(model, rows, "feature-extraction", output=tmp_path / "run", class_weight="balanced", **QUICK)
    assert "training.class_weight=balanced: numbers to predict have no classes to weigh" in run.report["notes"]


def test_a_backbone_that_gained_nothing_leaves_the_result_to_the_head(
    tiny_models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two equal models, of which the one that was solved alone is solved again with the validation rows."""
    real = learn.learn_by_steps

    def gain_nothing(*arguments: Any) -> Any:
        learned = real(*arguments)
        object.__setattr__(learned, "kept_step", 0)
        return learned

    monkeypatch.setattr(learn, "learn_by_steps", gain_nothing)
    rows = make_rows("regression", 600)
    run = afina.fit(tiny_models("bert"), rows, output=tmp_path / "run", num_train_epochs=1, **QUICK)
    (chosen,) = [each for each in run.reasons if each["setting"] == "technique"]
    if chosen["value"] == "feature-extraction":
        pytest.skip("the head was chosen before anything was trained")
    (result,) = [each for each in run.reasons if each["setting"] == "result"]
    assert (run.technique, result["value"]) == ("feature-extraction", "feature-extraction")
    assert result["reason"].startswith(f"no step of {chosen['value']} was better")
