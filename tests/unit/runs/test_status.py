"""status.json is whole at any time, written now and then, and tells a run that is alive from one that isn't."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from afina.runs import status
from afina.runs.folder import RunFolder
from afina.runs.names import STATUS
from afina.runs.status import Spent, StatusFile, is_alive, read_spent, read_state


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


def read(folder: RunFolder) -> dict[str, Any]:
    return dict(json.loads((folder.path / STATUS).read_text()))


def test_it_says_who_and_when(folder: RunFolder) -> None:
    StatusFile(folder).tell("training", step=3, loss=0.5)
    found = read(folder)
    assert (found["state"], found["step"], found["loss"]) == ("training", 3, 0.5)
    assert (found["pid"], found["host"]) == (os.getpid(), status.platform.node())
    assert found["peak_memory_bytes"] >= found["memory_bytes"] * 0.5 > 2**20
    updated = datetime.fromisoformat(found["updated_at"])
    assert updated.tzinfo == UTC
    assert abs(datetime.now(UTC) - updated) < timedelta(minutes=1)
    assert [path.name for path in folder.path.iterdir()] == [STATUS]


def test_it_is_written_every_two_seconds_and_at_each_change_of_state(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(status.time, "monotonic", lambda: now)
    file, seen = StatusFile(folder), []
    for second, state in ((0, "training"), (1, "training"), (1.9, "training"), (2, "training"), (2.1, "saving")):
        now = 100.0 + second
        file.tell(state, step=second)
        seen.append(read(folder)["step"])
    assert seen == [0, 0, 0, 2, 2.1]


def test_a_wall_clock_that_jumps_stops_nothing(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Jumping(datetime):
        @classmethod
        def now(cls, zone: Any = None) -> datetime:
            return datetime(1970, 1, 1, tzinfo=zone)

    file = StatusFile(folder)
    file.tell("training", step=1)
    monkeypatch.setattr(status, "datetime", Jumping)
    file.written_at -= 3
    file.tell("training", step=2)
    assert read(folder)["step"] == 2


def test_a_folder_that_is_gone_or_full_stops_nothing(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, value: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "write_json", fail)
    StatusFile(folder).tell("training")
    folder.path.rmdir()
    StatusFile(folder).tell("training")
    assert not folder.path.exists()


def make_status(**changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {"state": "training", "pid": os.getpid(), "host": status.platform.node(), "updated_at": now} | changes


def test_a_run_whose_process_is_there_is_alive() -> None:
    assert is_alive(make_status())
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    found = make_status(pid=process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(found), "it has ended, though nobody has asked for its exit code"
    process.wait()
    assert not is_alive(found)


def test_a_later_process_of_the_same_number_is_another_one() -> None:
    long_ago = (datetime.now(UTC) - timedelta(days=3650)).isoformat()
    assert not is_alive(make_status(updated_at=long_ago))


def test_on_another_machine_silence_tells() -> None:
    quiet = (datetime.now(UTC) - timedelta(minutes=16)).isoformat()
    assert is_alive(make_status(host="elsewhere", pid=2**22 + 1))
    assert not is_alive(make_status(host="elsewhere", updated_at=quiet))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (make_status(step=4, total_steps=9), {"state": "running", "step": 4, "total_steps": 9}),
        (make_status(pid=2**22 + 1), {"state": "dead"}),
        (make_status(state="interrupted", step=4), {"state": "interrupted", "step": 4}),
        (make_status(state="failed"), {"state": "failed"}),
        ({"state": "training"}, {"state": "unfinished"}),
        (make_status(updated_at="yesterday"), {"state": "unfinished"}),
        (make_status(pid="x"), {"state": "unfinished"}),
        ([], {"state": "unfinished"}),
        (None, {"state": "unfinished"}),
    ],
)
def test_the_state_of_an_unfinished_run(written: Any, expected: dict[str, Any], folder: RunFolder) -> None:
    if written is not None:
        (folder.path / STATUS).write_text(json.dumps(written))
    assert read_state(folder) == expected


def test_what_a_run_has_cost_is_read_again(folder: RunFolder) -> None:
    time = {"seconds": 12.5, "stage_seconds": {"read": 0.5, "train": 11.0}}
    StatusFile(folder, lambda: time).tell("training")
    spent = read_spent(folder)
    assert (spent.seconds, spent.stage_seconds) == (12.5, time["stage_seconds"])
    assert spent.peak_memory_bytes == read(folder)["peak_memory_bytes"] > 2**20


@pytest.mark.parametrize(
    "changes",
    [{"seconds": -1}, {"seconds": "x"}, {"seconds": float("nan")}, {"stage_seconds": [1]},
     {"stage_seconds": {"train": float("inf")}}, {"peak_memory_bytes": None}],
)  # fmt: skip
def test_a_cost_that_no_run_has_written_is_none(folder: RunFolder, changes: dict[str, Any]) -> None:
    stored = make_status(seconds=1.0, stage_seconds={}, peak_memory_bytes=1, device="cpu")
    (folder.path / STATUS).write_text(json.dumps(stored))
    assert read_spent(folder) == Spent(1.0, {}, 1)
    (folder.path / STATUS).write_text(json.dumps(stored | changes))
    assert read_spent(folder) == Spent()


def test_a_run_without_a_status_has_cost_nothing_yet(folder: RunFolder) -> None:
    assert read_spent(folder) == Spent()


def test_the_peak_of_an_earlier_process_stays_the_peak(folder: RunFolder) -> None:
    time = {"seconds": 1.0, "stage_seconds": {}}
    large = Spent(1.0, {}, 10**12)
    StatusFile(folder, lambda: time, large).tell("training")  # the second process
    third = read_spent(folder)
    assert third.peak_memory_bytes == 10**12
    assert third.join_peak(5, "cpu") == 10**12
    assert third.join_peak(5, "cuda") == 5, "the memory of another device"
    StatusFile(folder, lambda: time, Spent(1.0, {}, 10**12, "cuda")).tell("training")
    assert read_spent(folder).peak_memory_bytes < 10**12
