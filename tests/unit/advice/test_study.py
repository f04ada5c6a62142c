"""The study: what is wrong with its storage is said in a sentence; proposals depend on seed and history alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afina.advice.search import study
from afina.advice.search.space import Arm, Dimension, Space
from afina.advice.search.study import Ledger, check_url, count_good, hide_password
from afina.errors import ConfigError, RunFolderError

RATE = Dimension("training.learning_rate", 1e-4, low=1e-5, high=1e-3)
SPACE = Space({"full": Arm("full", {}, by_pairs=False, dimensions=[RATE])}, ties_alpha=False)


@pytest.fixture
def open_ledger(tmp_path: Path) -> Callable[..., Ledger]:
    """`open_ledger(name)`: a study in a file of its own."""
    return lambda name="study", seed=1, **named: Ledger(f"sqlite:///{tmp_path / name}.db", "test", True, seed, **named)


def take(ledger: Ledger, place: int) -> Any:
    trial = ledger.ask(place)
    proposal = ledger.propose(SPACE, trial)
    ledger.note(trial, {"state": "finished", "settings": dict(proposal.settings)})
    rate = proposal.settings.get("training.learning_rate", 1e-4)
    ledger.tell(trial, "finished", -abs(rate - 4e-4))
    return rate


def test_a_resumed_study_proposes_what_an_uninterrupted_one_would(open_ledger: Callable[..., Ledger]) -> None:
    whole = open_ledger("whole")
    expected = [take(whole, place) for place in range(9)]
    assert len(set(expected)) == 9
    first = open_ledger("halves")
    found = [take(first, place) for place in range(4)]
    second = open_ledger("halves")
    found += [take(second, place) for place in range(4, 9)]
    assert found == expected
    assert [take(open_ledger("other", seed=2), 0)] != expected[:1]
    assert [entry["trial"] for entry in second.entries()] == list(range(9))
    assert all(entry["is_told"] for entry in second.entries())


def test_a_trial_can_be_reopened_and_its_worse_half_ends(open_ledger: Callable[..., Ledger]) -> None:
    ledger = open_ledger()
    ends = []
    for score in (0.9, 0.8, 0.7, 0.2):
        trial = ledger.ask(0)
        ledger.propose(SPACE, trial)
        ends.append(ledger.report(trial, score, 1))
        ledger.tell(trial, "stopped" if ends[-1] else "finished", score)
    assert ends[0] is False
    assert ends[-1] is True
    trial = ledger.ask(4)
    proposal = ledger.propose(SPACE, trial)
    ledger.note(trial, {"state": "running"})
    again = ledger.reopen(trial.number)
    assert ledger.propose(SPACE, again) == proposal
    ledger.tell(again, "finished", 0.5)
    assert ledger.entries()[-1] == {"state": "running", "trial": 4, "is_told": True}


def test_a_question_asked_again_after_a_kill_has_the_same_answer(open_ledger: Callable[..., Ledger]) -> None:
    ledger = open_ledger()
    answers = []
    for score in (0.9, 0.2):
        trial = ledger.ask(0)
        answers += [open_ledger().report(trial, score, 1) for _ in range(2)]
    assert answers == [False, False, True, True]


@pytest.mark.parametrize(("is_shared", "numbers"), [(False, [0, 1]), (True, [1, 2])])
def test_a_trial_that_was_asked_for_and_never_noted_is_given_out_again(
    is_shared: bool, numbers: list[int], open_ledger: Callable[..., Ledger]
) -> None:
    """A kill came between the two. Where others share the storage it may be theirs."""
    killed = open_ledger()
    expected = killed.propose(SPACE, killed.ask(0))
    ledger = open_ledger(is_shared=is_shared)
    trial = ledger.ask(0)
    assert ledger.propose(SPACE, trial) == expected
    ledger.note(trial, {"state": "running"})
    assert [trial.number, ledger.ask(1).number] == numbers


def test_a_trial_without_parameters_gets_those_that_it_turned_out_to_have(open_ledger: Callable[..., Ledger]) -> None:
    ledger = open_ledger()
    trial = ledger.ask(0, {})
    ledger.note(trial, {"state": "finished"})
    assert trial.params == {}
    point = SPACE.locate("full", {"training.learning_rate": 3e-4})
    assert point == {"arm": "full", "full/training.learning_rate": 3e-4}
    ledger.place(trial, SPACE, point)
    ledger.tell(trial, "finished", 0.5)
    again = ledger.reopen(trial.number)
    assert again.params == point
    assert ledger.propose(SPACE, again).settings == {"training.learning_rate": 3e-4}


def test_a_quarter_of_the_trials_are_good_ones() -> None:
    assert [count_good(trials) for trials in (1, 4, 5, 8, 40)] == [1, 1, 2, 2, 10]


def test_a_storage_that_is_gone(open_ledger: Callable[..., Ledger], tmp_path: Path) -> None:
    ledger = open_ledger()
    (tmp_path / "study.db").unlink()
    with pytest.raises(RunFolderError) as caught:
        ledger.ask(0)
    assert str(caught.value) == (
        f"the storage sqlite:///{tmp_path}/study.db is gone\n  expected: the file that the search began with\n"
        "  do: bring it back; the trials so far are ordinary runs: afina compare RUN RUN"
    )


def test_a_storage_that_is_locked(
    open_ledger: Callable[..., Ledger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "LOCK_SECONDS", 0.1)
    ledger = open_ledger()
    other = sqlite3.connect(tmp_path / "study.db")
    try:
        other.execute("begin exclusive")
        with pytest.raises(RunFolderError) as caught:
            ledger.ask(0)
    finally:
        other.close()
    assert str(caught.value) == (
        f"the storage sqlite:///{tmp_path}/study.db is locked by another program\n  found: database is locked\n"
        "  do: end that program"
    )


def test_a_storage_that_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(RunFolderError, match=r"can't be used\n  found: file is not a database"):
        Ledger(f"sqlite:///{tmp_path / 'study.db'}", "test", True, 0)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("foo://host/name", "no storage has the scheme foo\n  found: foo://host/name\n"),
        ("no url", "the storage is not a URL\n  found: no url\n"),
        (
            "postgresql://me:secret@host/name",
            "the storage postgresql://me:***@host/name needs the Python package psycopg",
        ),
    ],
)
def test_what_is_no_storage(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_url(url)
    assert str(caught.value).startswith(message)
    assert "secret" not in str(caught.value)


def test_passwords_are_hidden() -> None:
    assert hide_password("mysql+pymysql://me:secret@host/name") == "mysql+pymysql://me:***@host/name"


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"can't be made: its folder doesn't exist"):
        Ledger(f"sqlite:///{tmp_path}/nowhere/study.db", "test", True, 0)
