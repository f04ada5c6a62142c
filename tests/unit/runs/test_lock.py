"""One process at a time works in a run's folder, and a dead one holds nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afina.errors import RunFolderError
from afina.runs.folder import open_run
from afina.runs.lock import find_holder, hold_folder
from afina.runs.names import LOCK

PROCESSES, TURNS = 4, 15


def fork(work: Callable[[], None]) -> int:
    """The process id of a child that does the work."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def hold_for_long(folder: Path) -> None:
    with hold_folder(folder, "afina train"):
        (folder / "held").touch()
        time.sleep(60)


@pytest.fixture
def other(tmp_path: Path) -> int:
    """Another process that holds the folder; it is killed at the end."""
    pid = fork(lambda: hold_for_long(tmp_path))
    while not (tmp_path / "held").exists():
        time.sleep(0.002)
    yield pid  # type: ignore[misc]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_second_process_is_refused_and_told_who_is_first(other: int, tmp_path: Path) -> None:
    since = json.loads((tmp_path / LOCK).read_text())["since"]
    with pytest.raises(RunFolderError) as caught, hold_folder(tmp_path, "afina resume"):
        pass
    host = platform.node()
    assert str(caught.value) == (
        f"another process is at work in {tmp_path}\n"
        f"  found: afina train, process {other} on {host}, since {since}\n"
        f"  do: wait for its end, or stop it with kill {other} on {host}; a process that died holds nothing"
    )
    assert (tmp_path / LOCK).exists()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    pid = fork(lambda: hold_for_long(tmp_path))
    while not (tmp_path / "held").exists():
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert (tmp_path / LOCK).exists()
    with hold_folder(tmp_path, "afina resume"):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


def test_it_is_let_go_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold_folder(tmp_path, "x"):
        raise ZeroDivisionError
    with hold_folder(tmp_path, "x"):
        pass
    assert list(tmp_path.iterdir()) == []


def count_up(folder: Path) -> None:
    """Add one, many times: read, wait, write, which goes wrong without a lock."""
    done = 0
    while done < TURNS:
        try:
            with hold_folder(folder, "x"):
                known = int((folder / "count").read_text())
                time.sleep(0.0005)
                (folder / "count").write_text(str(known + 1))
            done += 1
        except RunFolderError:
            time.sleep(0.0003)


def test_no_two_hold_it_at_once(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    children = [fork(lambda: count_up(tmp_path)) for _ in range(PROCESSES)]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * PROCESSES
    assert (tmp_path / "count").read_text() == str(PROCESSES * TURNS)


def refuse_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network file system that has none."""

    def flock(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


def test_without_locks_the_process_is_looked_for(other: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_locks(monkeypatch)
    with pytest.raises(RunFolderError) as caught, hold_folder(tmp_path, "afina resume"):
        pass
    assert f"process {other} on" in str(caught.value)


@pytest.mark.parametrize(
    "owner",
    [
        {"pid": 2**22 + 1, "host": platform.node()},  # above the largest number of a process
        {"pid": 1, "host": "another"},
        {"pid": "1", "host": platform.node()},
        [],
        None,
    ],
)
def test_without_locks_a_process_that_is_not_here_holds_nothing(
    owner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_locks(monkeypatch)
    (tmp_path / LOCK).write_text("" if owner is None else json.dumps(owner))
    with hold_folder(tmp_path, "x"):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RunFolderError) as caught, hold_folder(tmp_path, "x"):
        pass
    assert str(caught.value) == f"nothing can be written to {tmp_path}\n  found: Read-only file system"


def test_a_run_that_is_still_preparing_is_said_to_be_alive(other: int, tmp_path: Path) -> None:
    """It has no config.yaml yet, and so looks like one that was killed before it began."""
    (tmp_path / "held").unlink()
    with pytest.raises(RunFolderError) as caught:
        open_run(tmp_path)
    assert str(caught.value).startswith(
        f"another process is at work in {tmp_path}\n  found: afina train, process {other} on "
    )
    assert find_holder(tmp_path) is not None


def test_nobody_holds_what_a_dead_process_left(tmp_path: Path) -> None:
    assert find_holder(tmp_path) is None
    (tmp_path / LOCK).write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}))
    assert find_holder(tmp_path) is None
    with pytest.raises(RunFolderError, match="it was killed before there was anything to go on with"):
        open_run(tmp_path)


def test_a_folder_that_was_made_anew_keeps_the_lock_of_its_new_holder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with hold_folder(folder, "afina train"):
        shutil.rmtree(folder)  # a run that leaves nothing behind
        folder.mkdir()
        pid = fork(lambda: hold_for_long(folder))
        while not (folder / "held").exists():
            time.sleep(0.002)
    try:
        with pytest.raises(RunFolderError, match=f"process {pid} "), hold_folder(folder, "afina train"):
            pass
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_look_at_the_holder_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / LOCK).touch()
    handle = os.open(tmp_path / LOCK, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)  # as `find_holder` does, for a moment
    monkeypatch.setattr(time, "sleep", lambda seconds: os.close(handle))
    with hold_folder(tmp_path, "afina train"):
        assert (tmp_path / LOCK).exists()
