"""One process at a time in the folder of a run, or on an output, by a lock of the kernel that ends with the process.

The file `.afina.lock` says who holds it. A kill leaves the file behind and no lock, so there is nothing to clean up.
Where files can't be locked (some network file systems, Windows) the process that the file names is looked for instead.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from afina.errors import RunFolderError, describe_cause
from afina.runs.names import LOCK

LOOKS, LOOK_SECONDS = 3, 0.05
"""How often a lock is tried again, and after how long: who only looks for its holder takes it for a moment."""
# What `flock` says where the file system has no locks.
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@contextlib.contextmanager
def hold_folder(folder: Path, purpose: str) -> Iterator[None]:
    """The folder for this process alone, until the context is left.

    Args:
        purpose: what it is held for, as a person would write it: `afina resume`.

    Raises:
        RunFolderError: if another process holds it, naming that process, or if nothing can be written there.
    """
    with hold_lock(folder / LOCK, f"in {folder}", purpose):
        yield


@contextlib.contextmanager
def hold_output(path: Path, purpose: str) -> Iterator[None]:
    """A file or folder that is to be written, for this process alone, until the context is left.

    Args:
        purpose: as in `hold_folder`.

    Raises:
        RunFolderError: as `hold_folder`.
    """
    with hold_lock(path.with_name(f".{path.name}.lock"), f"on {path}", purpose):
        yield


@contextlib.contextmanager
def hold_lock(path: Path, where: str, purpose: str) -> Iterator[None]:
    """The lock file at `path`, held until the context is left; `where` says what it stands for."""
    handle = take_lock(path, where)
    owner = {"pid": os.getpid(), "host": platform.node(), "since": describe_now(), "purpose": purpose}
    os.truncate(handle, 0)
    os.write(handle, json.dumps(owner).encode())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if is_same_file(handle, path):  # else the folder was removed, and what is there now is another process's
                path.unlink()
        os.close(handle)


def take_lock(path: Path, where: str) -> int:
    """The open lock file, locked where that is possible."""
    patience = LOOKS
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise RunFolderError(f"nothing can be written to {path.parent}", found=describe_cause(error)) from None
        try:
            is_locked = lock_file(handle)
            if not is_locked and is_alive(read_owner(path)):
                raise BlockingIOError
            if is_same_file(handle, path):
                return handle
        except BlockingIOError:
            owner = read_owner(path)
            os.close(handle)
            if not patience:
                raise refuse(where, owner) from None
            patience -= 1
            time.sleep(LOOK_SECONDS)
            continue
        os.close(handle)  # the holder has just let go and removed it: what is locked is no longer there


def find_holder(folder: Path) -> dict[str, Any] | None:
    """What the lock file says of the process that holds the folder now; None if nobody does."""
    path = folder / LOCK
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        owner = read_owner(path)
        return None if lock_file(handle) or not is_alive(owner) else owner
    except BlockingIOError:
        return owner
    finally:
        os.close(handle)  # and so lets go of it


def lock_file(handle: int) -> bool:
    """Whether the file is locked now; False where files can't be locked.

    Raises:
        BlockingIOError: if another process has locked it.
    """
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise BlockingIOError from None
        return False
    return True


def is_same_file(handle: int, path: Path) -> bool:
    """Whether the name still stands for the open file."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def read_owner(path: Path) -> dict[str, Any]:
    """What the lock file says; empty where it says nothing."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def is_alive(owner: dict[str, Any]) -> bool:
    """Whether the process that a lock file names runs on this machine; of another machine's nothing is known."""
    import psutil

    pid = owner.get("pid")
    is_here = owner.get("host") == platform.node() and isinstance(pid, int) and pid != os.getpid()
    return is_here and psutil.pid_exists(int(pid or 0))


def refuse(where: str, owner: dict[str, Any]) -> RunFolderError:
    """The error for what another process holds."""
    pid, host = owner.get("pid", "?"), owner.get("host", "?")
    found = f"{owner.get('purpose', 'afina')}, process {pid} on {host}, since {owner.get('since', '?')}"
    return RunFolderError(
        f"another process is at work {where}", found=found,
        remedy=f"wait for its end, or stop it with kill {pid} on {host}; a process that died holds nothing",
    )  # fmt: skip


def describe_now() -> str:
    """Date and time, in UTC."""
    return datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
