"""A run whose two lists of class names differ isn't used: one of them was edited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from afina.errors import RunFolderError
from afina.runs.class_names import check_class_names
from afina.runs.folder import RunFolder


def make_folder(path: Path, config: Any) -> RunFolder:
    (path / "model").mkdir()
    (path / "model" / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return RunFolder(path)


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ({"0": "bad", "1": "good"}, "0 is 'good' and 'bad', 1 is 'bad' and 'good'"),
        ({"0": "good", "1": "fine"}, "1 is 'bad' and 'fine'"),
        ({"0": "good"}, "1 is 'bad' and None"),
    ],
)
def test_names_that_differ_are_shown(tmp_path: Path, stored: dict[str, str], shown: str) -> None:
    with pytest.raises(RunFolderError, match="have other names in") as caught:
        check_class_names(make_folder(tmp_path, {"id2label": stored}), {0: "good", 1: "bad"})
    assert f"found: {shown}\n" in str(caught.value)


@pytest.mark.parametrize("config", [{"id2label": {"0": "good", "1": "bad"}}, {}, [], "{", {"id2label": 3}])
def test_names_that_are_alike_or_not_there_are_right(tmp_path: Path, config: Any) -> None:
    check_class_names(make_folder(tmp_path, config), {0: "good", 1: "bad"})


def test_numbers_have_no_names(tmp_path: Path) -> None:
    check_class_names(make_folder(tmp_path, {"id2label": {"0": "LABEL_0"}}), {})
