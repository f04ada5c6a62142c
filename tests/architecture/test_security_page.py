"""docs/security.md is true where a test can tell: its tests are there, and its table holds every dependency."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def name_package(requirement: str) -> str:
    return re.split(r"[\[<>=~;! ]", requirement)[0].lower().replace("_", "-")


def test_every_direct_dependency_is_in_the_table() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"-": project["dependencies"], **project["optional-dependencies"]}
    wanted = {(name_package(each), extra) for extra, listed in groups.items() for each in listed} - {
        ("afina", extra) for extra in groups
    }
    rows = re.findall(r"^\| ([a-z0-9-]+) \| ([a-z-]+) \| [^|]+ \| [^|]+ \| [A-Za-z0-9.-]+ \|$", PAGE, re.MULTILINE)
    assert len(rows) > 25
    assert set(rows) - {("package", "extra")} == wanted


def test_every_test_that_is_named_is_there() -> None:
    named = set(re.findall(r"`(tests/[a-z_/]+\.py)`", PAGE))
    assert len(named) > 7
    assert not [path for path in named if not (ROOT / path).is_file()]
