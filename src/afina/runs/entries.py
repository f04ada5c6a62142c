"""What may not lie in the folder of a run, wherever in it: ways out of it, and what waits for ever when it is read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from afina.errors import Problem, RunFolderError
from afina.models.settings import show_value
from afina.runs.names import CARD, ENDINGS, FILES_FROM_THE_BEGINNING, PAGE, PREDICTIONS, ROW_SCORES, WORK

KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
FOLDERS = {"model", "checkpoints", WORK}
FILES = {*FILES_FROM_THE_BEGINNING, *ENDINGS, PAGE, CARD, PREDICTIONS, ROW_SCORES}


def check_entries(folder: Path) -> None:
    """Refuse a run, or a search, with something odd in it.

    Raises:
        RunFolderError: with each such thing.
    """
    if odd := list(find_odd_entries(folder)):
        raise RunFolderError(f"the folder {folder} can't be used", problems=odd)


def find_odd_entries(folder: Path) -> Iterator[Problem]:
    """Links that lead out of the folder, what is neither file nor folder, and the one in place of the other."""
    root = folder.resolve()
    for path in iterate_entries(folder):
        name = path.relative_to(folder).as_posix()
        shown = name if name.isprintable() else show_value(name)
        kind = KINDS.get(stat.S_IFMT(path.lstat().st_mode))
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            yield Problem(
                f"{shown} is a symbolic link that leads out of the folder of the run",
                found=show_value(os.readlink(path)), expected="files and folders that lie in it",
                remedy="put what is meant in its place",
            )  # fmt: skip
        elif name in FOLDERS and not path.is_dir():
            yield Problem(
                f"{shown} in the folder of the run is no folder", found=kind or "a file",
                remedy="remove it, or copy the folder of the run again",
            )  # fmt: skip
        elif kind or (name in FILES and path.is_dir()):
            yield Problem(
                f"{shown} in the folder of the run is no file", found=kind or "a folder",
                remedy="remove it, or copy the folder of the run again",
            )  # fmt: skip


def iterate_entries(folder: Path) -> Iterator[Path]:
    """All that lies in the folder, in folders in it, and so on; links to folders aren't followed."""
    for parent, folders, files in os.walk(folder):
        for name in sorted([*folders, *files]):
            yield Path(parent, name)
