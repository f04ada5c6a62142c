"""New folders for runs: where they are made, how they are called, and the room they need."""

from __future__ import annotations

import contextlib
import re
import shutil
from datetime import datetime
from pathlib import Path

from afina.config.run import RunConfig
from afina.errors import RunFolderError, describe_cause
from afina.runs.folder import FOR_OWNER, RUNS, RunFolder, check_new

LONGEST_NAME = 60
"""Characters; a number may still come after them."""
CHECKPOINT_BYTES = 12
"""Of each trained number: the weight and AdamW's two moments, each in fp32."""
EXTRA_CHECKPOINTS = 2
"""Those that are written beside the ones that are kept: the best one, and the next before an old one goes."""


def create_run_folder(config: RunConfig, data_name: str) -> RunFolder:
    """A new folder for a run, at `config.output` or under runs/.

    Raises:
        RunFolderError: if the folder holds something already, or can't be made.
    """
    if config.output:
        return make_folder(Path(config.output))
    return make_named_folder(str(config.technique), data_name)


def make_named_folder(kind: str, data_name: str) -> RunFolder:
    """A new folder under runs/; of two runs that begin at the same moment each gets its own."""
    while True:
        with contextlib.suppress(FileExistsError):
            return make_folder(choose_path(kind, data_name), must_be_new=True)


def make_folder(path: Path, must_be_new: bool = False) -> RunFolder:
    """A new folder at `path`.

    Args:
        must_be_new: whether a folder that is there already, be it empty, is somebody else's and so an error.

    Raises:
        RunFolderError: if it holds something already, or can't be made.
        FileExistsError: if it is there and `must_be_new`.
    """
    check_new(path)
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(FOR_OWNER, parents=True, exist_ok=not must_be_new)
    except OSError as error:
        if must_be_new and isinstance(error, FileExistsError):
            raise
        raise RunFolderError(
            f"the folder {path} can't be made", found=describe_cause(error), remedy="another --output"
        ) from None
    return RunFolder(path, made)


def choose_path(kind: str, data_name: str) -> Path:
    """runs/DATA-KIND-TIME, with a number after it if that is taken; the kind is a technique, or `search`.

    The name is made of letters, digits and the signs `._-`, begins with one of the former, and has at most 64.
    """
    ending = f"-{kind}-{datetime.now():%Y%m%d-%H%M%S}"
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", data_name).strip("-._")[: LONGEST_NAME - len(ending)] or "data"
    base = RUNS / f"{name}{ending}"
    path, number = base, 2
    while path.exists():
        path, number = base.with_name(f"{base.name}-{number}"), number + 1
    return path


def measure_folder(path: Path) -> int:
    """Bytes of all files below a folder; 0 if there is none."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def check_free_space(path: Path, needed_bytes: int, least_bytes: int) -> None:
    """Refuse a run whose files won't fit.

    Args:
        least_bytes: what it would take with a single checkpoint kept.

    Raises:
        RunFolderError: with the free and the needed space.
    """
    free_bytes = shutil.disk_usage(path).free
    if free_bytes < needed_bytes:
        raise RunFolderError(
            f"the disk of {path} is too full for this run",
            found=f"{free_bytes / 1e9:.2f} GB free",
            expected=f"about {needed_bytes / 1e9:.2f} GB for the model and what is kept on its way",
            remedy="--output on another disk"
            + (", or --set training.save_total_limit=1" if least_bytes <= free_bytes else ""),
        )
