"""Answers are kept as they come, for the same work alone, and a line that a kill has cut off is forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from afina.errors import RunFolderError
from afina.runs.journal import AnswerJournal


def test_answers_are_there_again_for_the_same_work(tmp_path: Path) -> None:
    journal = AnswerJournal(tmp_path / "kept")
    assert journal.open("work") == {}
    journal.add({3: "three ñ\u2028\n", 1: "one"})
    journal.add({7: ""})
    again = AnswerJournal(journal.path)
    assert again.open("work") == {3: "three ñ\u2028\n", 1: "one", 7: ""}
    assert not again.is_other
    again.add({2: "two"})
    assert AnswerJournal(journal.path).open("work")[2] == "two"
    journal.discard()
    journal.discard()
    assert list(tmp_path.iterdir()) == []


def test_those_of_other_work_are_gone(tmp_path: Path) -> None:
    journal = AnswerJournal(tmp_path / "kept")
    journal.open("work")
    journal.add({3: "three"})
    other = AnswerJournal(journal.path)
    assert (other.open("other"), other.is_other) == ({}, True)
    assert AnswerJournal(journal.path).open("other") == {}


@pytest.mark.parametrize("tail", ['{"1": "o', '{"1": 5}\n', '{"x": "one"}\n', "[]\n", '{"1": "one"}', "\udcff"])
def test_what_is_cut_off_or_strange_is_forgotten(tmp_path: Path, tail: str) -> None:
    journal = AnswerJournal(tmp_path / "kept")
    journal.open("work")
    journal.add({0: "zero"})
    with journal.path.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(tail)
    assert AnswerJournal(journal.path).open("work") == {0: "zero"}
    journal.add({2: "two"})
    lines = journal.path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"work": "work"}, {"0": "zero"}, {"2": "two"}]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="can't be written"):
        AnswerJournal(tmp_path / "none" / "kept").open("work")
