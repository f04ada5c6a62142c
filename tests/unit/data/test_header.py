"""A csv file whose first line is a row: said where columns are looked for, and among the findings."""

from __future__ import annotations

from pathlib import Path

import pytest

import afina
from afina.config.load import build_config
from afina.data.columns import choose_columns
from afina.data.header import find_row_signs
from afina.data.read import read_parts
from afina.errors import DataError

TEXTS = [f"{start} goes on for some words to number {i}" for i, start in enumerate(["one line", "another"] * 20)]


def write(path: Path, header: str, end: str = ",pos\n") -> Path:
    path.write_text(f"{header}\n" + "".join(f"{text}{end}" for text in TEXTS))
    return path


@pytest.mark.parametrize(
    ("header", "signs"),
    [
        ("a film that I would see,pos", "'a film that I would see' has 6 words; 'pos' stands in its own column too"),
        ("great,pos", "'pos' stands in its own column too"),
        ("great,3.5", "'3.5' is a number"),
        ("text,pos", ""),
        ("what is it,Label", ""),
        ("body,kind", ""),
        ("0,1", ""),
    ],
)  # fmt: skip
def test_signs_of_a_row(header: str, signs: str, tmp_path: Path) -> None:
    table = read_parts(write(tmp_path / "a.csv", header), tmp_path / "spool")["all"]
    assert find_row_signs(table) == signs


def test_only_files_with_a_header_are_looked_at(tmp_path: Path) -> None:
    rows = [{"great": text, "pos": "pos"} for text in TEXTS]
    assert find_row_signs(read_parts(rows, tmp_path)["all"]) == ""


def test_it_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("great,pos\n" + "".join(f"{text},{'pos' if i % 3 else 'neg'}\n" for i, text in enumerate(TEXTS)))
    found = {finding.code: finding for finding in afina.check(path).findings}["row-for-header"]
    assert (found.severity, found.title) == (
        "warning",
        "the first line of a.csv may be a row, and not the names of the columns: 'pos' stands in its own column too",
    )


def test_columns_that_are_not_found(tmp_path: Path) -> None:
    table = read_parts(write(tmp_path / "a.csv", "a film that I would see again,pos", ",pos\n"), tmp_path / "spool")
    config = build_config({"data": {"text_column": "text"}})
    with pytest.raises(DataError) as caught:
        choose_columns(table, config.data, "auto")
    assert str(caught.value) == (
        "a.csv has no column 'text'\n"
        "  found: columns: a film that I would see again, pos; the first line may be a row:"
        " 'a film that I would see again' has 7 words; 'pos' stands in its own column too\n"
        "  expected: a column 'text'\n"
        "  do: --text-column NAME; or write the names of the columns into a line before it, such as text,label"
    )
