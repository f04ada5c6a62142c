"""Which techniques can move a backbone here: those whose packages are installed."""

from __future__ import annotations

import pytest

from afina.techniques.qlora import QLora
from afina.techniques.registry import list_moving


@pytest.mark.parametrize("task", ["text-classification", "token-classification", "text-generation"])
def test_a_technique_whose_package_is_missing_is_left_out(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QLora, "needs", "json")
    assert list_moving(task) == ["full", "lora", "qlora"]
    monkeypatch.setattr(QLora, "needs", "no_such_package")
    assert list_moving(task) == ["full", "lora"]


def test_a_task_that_none_can_learn_has_none() -> None:
    assert list_moving("translation") == []
