"""The page of settings is what the schema says (`python -m afina.config.reference` prints it)."""

from __future__ import annotations

from pathlib import Path

from afina.config.load import list_keys
from afina.config.reference import render_reference

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_reference()


def test_every_setting_is_described() -> None:
    page = render_reference()
    keys = list_keys()
    assert len(keys) > 30
    for key in keys:
        line = next(line for line in page.splitlines() if line.startswith(f"| `{key}` |"))
        _, _, _, takes, text, _ = line.replace("\\|", "/").split("|")
        assert takes.strip(), key
        assert len(text.strip()) > 20, key


def test_ranges_are_those_of_the_schema() -> None:
    page = render_reference()
    assert "| `training.learning_rate` | `auto` | a number above 0 and up to 1, or auto |" in page
    assert "| `features.folds` | `4` | a whole number from 2 and up to 20 |" in page
