"""The page of what `afina` exports is what the docstrings say (`python docs/reference/make_api.py` prints it)."""

from __future__ import annotations

import runpy
from pathlib import Path

import afina

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
MAKER = runpy.run_path(str(FOLDER / "make_api.py"))


def test_page_is_up_to_date() -> None:
    assert (FOLDER / "api.md").read_text(encoding="utf-8") == MAKER["render_page"]()


def test_everything_that_is_exported_stands_there() -> None:
    page = MAKER["render_page"]()
    assert [name for name in afina.__all__ if f"`{name}`" not in page and f"`afina.{name}`" not in page] == [
        "__version__"
    ]
