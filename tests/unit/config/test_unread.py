"""Settings of another kind of task are told, not kept in silence."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

import afina
from afina.config.load import build_config, dump_config, list_keys
from afina.config.run import RunConfig
from afina.config.unread import (
    OF_LABELS,
    OF_LANGUAGE,
    OF_STEPS,
    READ_BY,
    group_unread,
    leave_unread_out,
    list_unread,
)
from afina.testing.data import make_conversations, make_rows


def test_the_lists_name_settings() -> None:
    assert {*OF_LABELS, *OF_LANGUAGE, *OF_STEPS} <= set(list_keys())
    assert set(READ_BY) - set(OF_STEPS) == {"lora", "quantization"} <= set(RunConfig.model_fields)
    assert not set(OF_LABELS) & set(OF_LANGUAGE)


@pytest.mark.parametrize(
    ("tree", "is_generation", "paths"),
    [
        ({}, True, []),
        ({}, False, []),
        ({"model": {"chat_template": "chatml"}, "data": {"train_on": "last"}}, True, []),
        ({"model": {"chat_template": "chatml"}, "data": {"train_on": "last"}}, False, [
            "data.train_on", "model.chat_template"]),
        ({"training": {"class_weight": "balanced"}, "features": {"folds": 9}}, False, []),
        ({"training": {"class_weight": "balanced"}, "features": {"folds": 9}}, True, [
            "training.class_weight", "features.folds"]),
        ({"training": {"learning_rate": 1e-3}, "technique": "full"}, False, []),
        ({"training": {"learning_rate": 1e-3}}, False, []),
    ],
)  # fmt: skip
def test_what_the_task_does_not_read(tree: dict[str, Any], is_generation: bool, paths: list[str]) -> None:
    task = "text-generation" if is_generation else "a task with labels"
    found = list_unread(build_config(tree), is_generation=is_generation)
    assert found == [f"{path}: {task} doesn't read it, so it does nothing here" for path in paths]


def test_steps_that_the_technique_does_not_take() -> None:
    tree = {"technique": "feature-extraction", "training": {"learning_rate": 1e-3, "dropout": 0.1, "precision": "fp32"}}
    told = [f"training.{name}: feature-extraction doesn't read it, so it does nothing here"
            for name in ("learning_rate", "dropout")]  # fmt: skip
    assert list_unread(build_config(tree), is_generation=False) == told


def test_what_a_technique_does_not_read_is_named_with_those_that_do() -> None:
    paths = ["training.dropout", "lora.r", "seed", "training.precision", "lora.lora_alpha", "features.folds"]
    assert group_unread("auto", paths) == group_unread("lora", paths) == {}
    assert group_unread("feature-extraction", paths) == {
        ("lora", "qlora", "auto"): ["lora.lora_alpha", "lora.r"],
        ("full", "lora", "qlora", "auto"): ["training.dropout"],
    }


def test_what_a_technique_does_not_read_is_left_out_of_its_description() -> None:
    tree = {"seed": 1, "lora": {"r": 4}, "training": {"learning_rate": 1e-3, "class_weight": "balanced"}}
    assert leave_unread_out(tree, "lora") == tree
    assert leave_unread_out(tree, "feature-extraction") == {"seed": 1, "training": {"class_weight": "balanced"}}
    # What a run writes down can be read again, whatever it was given before the technique was chosen.
    for technique in ("full", "feature-extraction", "lora", "qlora", "auto"):
        written = dump_config(RunConfig.model_validate({**tree, "technique": technique}))
        again = build_config(yaml.safe_load(written))
        assert again.training.class_weight == "balanced"


def test_a_check_tells_them() -> None:
    told = "model.chat_template: a task with labels doesn't read it, so it does nothing here"
    assert told in afina.check(make_rows("multiclass", 40), chat_template="chatml").notes
    assert not afina.check(make_conversations(rows=40), chat_template="chatml").notes
