"""Paths as users write them, and files that are still there, whole, after a power cut: contents first, then the names
they are found by."""

from __future__ import annotations

import os
from pathlib import Path

FILE_FOR_OWNER = 0o600


def expand_home(path: str | os.PathLike[str]) -> Path:
    """The path with `~` as the user's home; that of a user who isn't known here stays a name like any other."""
    return Path(os.path.expanduser(path))


def open_private(path: str, flags: int) -> int:
    """An opener for `open`: a new file is its owner's alone, and one that is a symbolic link isn't followed."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), FILE_FOR_OWNER)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Wait until a file that somebody else wrote is on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk (systems that can't open a folder have no such call)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Wait until all that is in a folder, and below it, is on the disk."""
    for inside, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync_file(Path(inside, name))
        sync_folder(Path(inside))
