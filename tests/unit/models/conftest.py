"""A fresh copy of a tiny model, to be damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def copy_model(tiny_models: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """`copy_model(family)` is a folder `model` of this test alone."""

    def copy(family: str) -> Path:
        return Path(shutil.copytree(tiny_models(family), tmp_path / "model"))

    return copy
