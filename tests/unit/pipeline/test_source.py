"""Which task the columns of a file stand for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import afina
from afina.config.run import GENERATION, RunConfig
from afina.data.read import read_parts
from afina.errors import DataError
from afina.pipeline.source import guess_task


def test_preference_data_is_told_from_labels(tmp_path: Path) -> None:
    rows = [{"prompt": f"q {i}", "chosen": f"a {i}", "rejected": f"b {i}"} for i in range(8)]
    with pytest.raises(DataError, match="this is preference data") as caught:
        afina.check(rows)
    assert 'prompt_column="prompt" completion_column="chosen"' in str(caught.value)


def guess(rows: list[dict[str, Any]], folder: Path, base: Path | None) -> str:
    return guess_task(RunConfig(), read_parts(rows, folder), base)[0]


@pytest.mark.parametrize(
    "row",
    [
        {"url": "http://a/{}", "title": "T {}", "text": "a page {}"},
        {"content": "def f{}(): pass", "path": "f{}.py"},
        {"text": "a page {}", "meta": {"a": 1}},
        {"question": "q {}", "answer": "a {}", "category": "billing"},
        {"asked": "q {}", "told": "a {}", "version": 1},
        {"translation": {"en": "a {}", "es": "b {}"}},
        {"prompt": "q {}", "completion": "a {}", "label": True},
    ],
)
def test_a_language_model_learns_to_write_where_nothing_looks_like_labels(
    row: dict[str, Any], tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    """An encoder can't, so there the user is asked for a label."""
    rows = [
        {key: value.format(i) if isinstance(value, str) else value for key, value in row.items()} for i in range(20)
    ]
    assert guess(rows, tmp_path / "a", tiny_models("llama")) == GENERATION
    assert guess(rows, tmp_path / "b", tiny_models("bert")) == "auto"


@pytest.mark.parametrize(
    "row",
    [
        {"text": "a page {}", "label": "{}"},
        {"text": "a page {}", "kind": "news", "n": 1},
        {"review": "good film {}", "stars_given": "3.{}"},
        {"user": "ana {}", "text": "a film {}", "target": "0.{}"},
        {"user": "ana {}", "film": "a film {}", "target": "0.{}"},
    ],
)
def test_labels_are_for_a_classifier_whatever_the_model(
    row: dict[str, Any], tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = [
        {key: value.format(i) if isinstance(value, str) else value for key, value in row.items()} for i in range(20)
    ]
    rows[0]["kind"] = "views"
    assert guess(rows, tmp_path, tiny_models("llama")) == "auto"
