"""Rows are written whole or not at all, in the format that the name says, and come back as they were."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afina.data.read import read_parts
from afina.data.text_formats import Delimiter
from afina.errors import RunFolderError
from afina.pipeline.narrator import Narrator
from afina.pipeline.prediction import predict_to_file
from afina.runs.folder import RunFolder
from afina.runs.lock import hold_output
from afina.runs.predictions import write_predictions
from afina.runs.table_file import check_output, write_rows

ROWS: list[dict[str, Any]] = [
    {"text": 'a "quoted", text', "label": None, "scores": {"ä": 0.5}, "names": ["x", "y"]},
    {"text": "two\nlines\tand a tab", "label": 3, "scores": {}, "names": []},
]


def test_json_lines_come_back(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    assert write_rows(iter(ROWS), path) == 2
    text = path.read_text(encoding="utf-8")
    assert [json.loads(line) for line in text.splitlines()] == ROWS
    assert "ä" in text


def test_a_line_that_names_the_separator_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_rows(iter([{"a": "x#y", "b": 1}]), path, Delimiter("#", is_said=True))
    assert path.read_bytes() == b'sep=#\r\na#b\r\n"x#y"#1\r\n'
    assert list(read_parts(path, tmp_path / "work")["all"].columns("a", "b")) == [(["x#y"], ["1"])]


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_cells_come_back(suffix: str, delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    assert write_rows(iter(ROWS), path) == 2
    with open(path, encoding="utf-8", newline="") as file:
        found = list(csv.reader(file, delimiter=delimiter))
    assert found == [
        ["text", "label", "scores", "names"],
        ['a "quoted", text', "", '{"ä": 0.5}', '["x", "y"]'],
        ["two\nlines\tand a tab", "3", "{}", "[]"],
    ]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_any_text_comes_back(texts: list[str], tmp_path: Path) -> None:
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        path = tmp_path / f"out{suffix}"
        write_rows(iter([{"n": 1, "text": text} for text in texts]), path)
        with open(path, encoding="utf-8", newline="") as file:
            assert [row[1] for row in csv.reader(file, delimiter=delimiter)][1:] == texts


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_no_rows_make_an_empty_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    assert write_rows(iter([]), path) == 0
    assert path.read_text() == ""


def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Iterator[dict[str, Any]]:
        yield ROWS[0]
        raise RuntimeError("model")

    for suffix in (".csv", ".jsonl"):
        with pytest.raises(RuntimeError, match="model"):
            write_rows(fail(), tmp_path / f"out{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_an_output_is_checked_before_the_work(tmp_path: Path) -> None:
    check_output(tmp_path / "new.csv")
    (tmp_path / "old.csv").write_text("")
    for path, message in (
        (
            tmp_path / "out.parquet",
            f"the format of {tmp_path / 'out.parquet'} isn't known\n  expected: .csv, .tsv, .jsonl\n"
            "  do: --output predictions.csv",
        ),
        (
            tmp_path / "old.csv",
            f"{tmp_path / 'old.csv'} exists already, and nothing is written over\n  do: another --output",
        ),
        (
            tmp_path / "no" / "out.csv",
            f"the folder {tmp_path / 'no'} doesn't exist\n  do: make it, or another --output than"
            f" {tmp_path / 'no' / 'out.csv'}",
        ),
    ):
        with pytest.raises(RunFolderError) as caught:
            check_output(path)
        assert str(caught.value) == message


def test_a_file_that_cant_be_written_is_the_users_to_solve(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "taken.csv").mkdir()
    for path, cause in ((tmp_path / "file" / "out.csv", "Not a directory"), (tmp_path / "taken.csv", "Is a directory")):
        with pytest.raises(RunFolderError) as caught:
            write_rows(iter(ROWS), path)
        assert str(caught.value) == f"{path} can't be written\n  found: {cause}\n  do: another --output"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken.csv"]


def test_two_do_not_predict_into_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.csv"
    message = r"another process is at work on .*out\.csv\n  found: afina predict, process \d+ on "
    with hold_output(path, "afina predict"), pytest.raises(RunFolderError, match=message):
        predict_to_file(RunFolder(tmp_path), [], path, {}, Narrator())
    assert not list(tmp_path.iterdir())

    @contextmanager
    def wait(path: Path, purpose: str) -> Iterator[None]:
        path.write_text("of the one before")
        yield

    monkeypatch.setattr("afina.pipeline.prediction.hold_output", wait)
    with pytest.raises(RunFolderError, match="exists already, and nothing is written over"):
        predict_to_file(RunFolder(tmp_path), [], path, {}, Narrator())
    assert path.read_text() == "of the one before"


def test_what_a_row_says_of_the_system_stays_what_it_is(tmp_path: Path) -> None:
    def fail() -> Iterator[dict[str, Any]]:
        yield ROWS[0]
        raise PermissionError("of another file")

    with pytest.raises(PermissionError, match="of another file"):
        write_rows(fail(), tmp_path / "out.csv")


def test_predictions_name_the_row_of_the_file(tmp_path: Path) -> None:
    folder, path = RunFolder(tmp_path), tmp_path / "predictions.jsonl"
    write_predictions(folder, [4, 9], [{"prediction": "ä", "probabilities": {"ä": 1.0}}, {"prediction": "b"}])
    assert path.read_text(encoding="utf-8") == (
        '{"row": 4, "prediction": "ä", "probabilities": {"ä": 1.0}}\n{"row": 9, "prediction": "b"}\n'
    )
    with pytest.raises(ValueError, match="shorter"):
        write_predictions(folder, [1, 2], [{"prediction": "a"}])
