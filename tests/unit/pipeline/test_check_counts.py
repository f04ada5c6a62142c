"""What training refuses by the number of rows, checking calls an error, in the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import afina
from afina.config.load import build_config
from afina.data.conversations import load_conversations
from afina.data.examples import load_examples
from afina.data.read import read_parts
from afina.errors import DataError

Rows = list[dict[str, Any]]
LABELLED: dict[str, Rows] = {
    "two rows": [{"text": f"some words {i}", "label": "ab"[i % 2]} for i in range(2)],
    "too many classes": [{"text": f"some words {i}", "label": f"class {i // 2}"} for i in range(2 * 5001)],
    "few rows for the classes": [{"text": f"some words {i}", "label": f"class {i % 9}"} for i in range(12)],
}
CONVERSATIONS: dict[str, Rows] = {
    "two rows": [{"prompt": f"words {i}", "completion": "answer"} for i in range(2)],
    "one prompt": [{"prompt": "the same", "completion": f"answer {i}"} for i in range(40)],
}


def find_counts(rows: Rows) -> list[str]:
    """Titles of the findings on counts, which are all errors."""
    report = afina.check(rows)
    found = [finding for finding in report.findings if finding.code == "row-counts"]
    assert all(finding.severity == "error" for finding in found)
    assert report.has_errors or not found
    return [finding.title for finding in found]


@pytest.mark.parametrize("name", LABELLED)
def test_labelled_rows_that_training_refuses(name: str, tmp_path: Path) -> None:
    rows, config = LABELLED[name], build_config({})
    with pytest.raises(DataError) as refused:
        load_examples(rows, config.data, "auto", config.seed, read_parts(rows, tmp_path))
    assert find_counts(rows) == [
        f"{each.what}: {each.found}; a run takes {each.expected}" for each in refused.value.problems
    ]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversations_that_training_refuses(name: str, tmp_path: Path) -> None:
    rows, config = CONVERSATIONS[name], build_config({})
    with pytest.raises(DataError) as refused:
        load_conversations(rows, config.data, config.seed, read_parts(rows, tmp_path))
    assert find_counts(rows) == [
        f"{each.what}: {each.found}; a run takes {each.expected}" for each in refused.value.problems
    ]


def test_enough_rows() -> None:
    assert find_counts([{"text": f"some words {i}", "label": "ab"[i % 2]} for i in range(40)]) == []
    assert find_counts([{"prompt": f"words {i}", "completion": "answer"} for i in range(40)]) == []
