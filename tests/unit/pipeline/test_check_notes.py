"""What a check tells beside its findings is what a run would tell, in words and on the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import afina
from afina.errors import DataError
from afina.testing.data import make_rows

REJECTED = "learned from, too: 10 rows that 'answer' says to leave out"


def test_what_a_person_refused_is_told(tmp_path: Path) -> None:
    rows = [{**row, "answer": ("accept", "reject")[i % 4 == 0]} for i, row in enumerate(make_rows("multiclass", 40))]
    page = tmp_path / "page.html"
    named: dict[str, Any] = {"text_column": "text", "label_column": "label", "task": "text-classification"}
    report = afina.check(rows, html=page, verbose=False, **named)
    assert not report.reasons
    assert REJECTED in report.notes
    assert "10 rows that" in page.read_text(encoding="utf-8"), "without anything that was guessed, too"


def test_lists_within_lists_are_counted_and_no_error_of_ours() -> None:
    deep: list[Any] = []
    for _ in range(3000):
        deep = [deep]
    with pytest.raises(DataError, match="nested too deeply"):
        afina.check([deep, deep], verbose=False)
