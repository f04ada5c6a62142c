"""A choice that is told as `section.name = value` can be given in just these words."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import afina
from afina.config.load import find_path

SOURCES = sorted(Path(afina.__file__).parent.rglob("*.py"))


def list_settings(path: Path) -> list[str]:
    """What the reasons that a file makes are said to set."""
    return [
        node.args[0].value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Reason" and node.args
        and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    ]  # fmt: skip


@pytest.mark.parametrize("setting", sorted({each for path in SOURCES for each in list_settings(path) if "." in each}))
def test_a_name_with_a_section_is_a_setting(setting: str) -> None:
    assert find_path(setting) == setting


def test_there_are_such_reasons() -> None:
    assert sum(len(list_settings(path)) for path in SOURCES) > 20
