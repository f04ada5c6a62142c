"""No setting is there for show: each is read where the work is done, and each says what it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from afina.config.load import list_keys
from afina.config.run import RunConfig

SOURCE = Path(__file__).parents[3] / "src" / "afina"


@pytest.fixture(scope="module")
def names_read() -> set[str]:
    """Names of all attributes that are read outside of `config`."""
    files = [path for path in SOURCE.rglob("*.py") if (SOURCE / "config") not in path.parents]
    assert len(files) > 50
    return {
        node.attr
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


@pytest.mark.parametrize("key", list_keys())
def test_the_setting_is_read(key: str, names_read: set[str]) -> None:
    assert key.rsplit(".", 1)[-1] in names_read


def test_a_name_that_nobody_reads_would_be_noticed(names_read: set[str]) -> None:
    assert "warmup_steps_ratio" not in names_read


@pytest.mark.parametrize("key", list_keys())
def test_the_setting_is_described(key: str) -> None:
    *sections, name = key.split(".")
    fields = RunConfig.model_fields
    for section in sections:
        fields = type(fields[section].default).model_fields
    description = fields[name].description
    # `path` and `reference` stand first in their sections and are described like all others.
    assert description
    assert description.endswith((".", '"'))
