"""A command of afina in a process that is forked from this one, and the moments at which it is killed.

The parent has imported the heavy libraries and computes nothing, so a run begins at once; from then on it is a process
like any other. SIGKILL can't be caught, so nothing in afina knows of this.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.0002
LONGEST_SECONDS = 180
# What changes a disk, as Python's audit hooks name it.
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}


@dataclass(frozen=True)
class Moment:
    """When to kill: `disk`, just before a change of the disk, by its number; `save`, a little after a temporary file
    or folder was seen; `clock`, after some seconds. `never` lets it end.
    """

    kind: str = "never"
    change: int = 0
    seconds: float = 0.0
    seen: int = 1
    """Number of the temporary name that is waited for."""


def draw_moment(source: random.Random, changes: int, seconds: float) -> Moment:
    """A moment of a run that makes so many changes of the disk and takes so many seconds."""
    kind = source.choices(("save", "disk", "clock"), (3, 5, 2))[0]
    if kind == "disk":
        return Moment(kind, change=source.randint(1, changes))
    if kind == "save":
        return Moment(kind, seconds=source.uniform(0.0, 0.006), seen=source.randint(1, 8))
    return Moment(kind, seconds=source.uniform(0.0, seconds))


def import_libraries() -> None:
    """All that commands import beside afina itself; see the head of this module."""
    import accelerate  # noqa: F401
    import bitsandbytes  # noqa: F401
    import optuna  # noqa: F401
    import peft  # noqa: F401
    import pyarrow  # noqa: F401
    import pydantic  # noqa: F401
    import sklearn.feature_extraction.text
    import sklearn.linear_model  # noqa: F401
    import torch
    import transformers.models.bert.modeling_bert
    import transformers.models.llama.modeling_llama  # noqa: F401
    import typer  # noqa: F401

    torch.set_num_threads(1)


def start(arguments: Sequence[str], folder: Path, log: Path, moment: Moment) -> int:
    """The process id of `afina ARGUMENTS` in `folder`; what it says goes to `log`."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.chdir(folder)
            os.environ["AFINA_CACHE"] = str(folder / "cache")
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            watch_disk(folder, moment.change)
            code = run_command(arguments)
            sys.stdout.flush()
        finally:
            os._exit(code)
    return pid


def run_command(arguments: Sequence[str]) -> int:
    """The exit code of a command, in the child."""
    sys.argv = ["afina", *arguments]
    try:
        from afina.cli import main

        main()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def watch_disk(folder: Path, last: int) -> None:
    """Count the changes that this process makes to the disk, one byte each in the file `changes`; die before the
    `last` one.
    """
    counter = os.open(folder / "changes", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    count = 0

    def mind(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        is_write = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if event not in CHANGES and not is_write:
            return
        count += 1
        os.write(counter, b".")
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(mind)


def count_changes(folder: Path) -> int:
    """The changes that the latest command in `folder` made."""
    return (folder / "changes").stat().st_size


def kill_at(pid: int, moment: Moment, run: Path) -> int:
    """Wait for the moment, kill, and give the exit code: -9 where the kill came in time."""
    began = time.monotonic()
    if moment.kind == "save":
        wait_for_unfinished(pid, run, moment.seen)
        time.sleep(moment.seconds)
    elif moment.kind == "clock":
        time.sleep(moment.seconds)
    if moment.kind in ("save", "clock") and not has_ended(pid):
        os.kill(pid, signal.SIGKILL)
    while not has_ended(pid):
        if time.monotonic() - began > LONGEST_SECONDS:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise TimeoutError(f"{run} hangs")
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def has_ended(pid: int) -> bool:
    """Whether the process is over; it is left to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def wait_for_unfinished(pid: int, run: Path, seen: int) -> None:
    """Wait until a temporary name appears for the `seen`th time, or the process ends."""
    count, known = 0, set[str]()
    while not has_ended(pid):
        now = set(list_unfinished(run))
        count += len(now - known)
        known = now
        if count >= seen:
            return
        time.sleep(POLL_SECONDS)


def list_unfinished(run: Path) -> list[str]:
    """Temporary names of a run or of a search's trials: of checkpoints, of the model, of single files."""
    found = []
    for folder in (run, run / "checkpoints", *run.glob("trial-*"), *run.glob("trial-*/checkpoints")):
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        found += [f"{folder.name}/{name}" for name in names if name.endswith((".tmp", ".old"))]
    return found
