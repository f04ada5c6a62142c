"""Settings of another kind of task are told, not kept in silence."""

from __future__ import annotations

from typing import Any

import pytest

import afina
from afina.config.load import build_config, list_keys
from afina.config.unread import OF_LABELS, OF_LANGUAGE, list_unread
from afina.testing.data import make_conversations, make_rows


def test_the_lists_name_settings() -> None:
    assert {*OF_LABELS, *OF_LANGUAGE} <= set(list_keys())
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
    ],
)  # fmt: skip
def test_what_the_task_does_not_read(tree: dict[str, Any], is_generation: bool, paths: list[str]) -> None:
    task = "text-generation" if is_generation else "a task with labels"
    found = list_unread(build_config(tree), is_generation=is_generation)
    assert found == [f"{path}: {task} doesn't read it, so it does nothing here" for path in paths]


def test_a_check_tells_them() -> None:
    told = "model.chat_template: a task with labels doesn't read it, so it does nothing here"
    assert told in afina.check(make_rows("multiclass", 40), chat_template="chatml").notes
    assert not afina.check(make_conversations(rows=40), chat_template="chatml").notes
