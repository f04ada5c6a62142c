"""Where a run lives, and the names of what is in it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from afina.config.load import load_config
from afina.config.run import RunConfig
from afina.durable import FILE_FOR_OWNER, expand_home, open_private, sync_folder
from afina.errors import RunFolderError, describe_cause
from afina.models.trust import check_saved_model
from afina.runs.damage import COPY, make_description_error, make_missing_error, make_no_model_error
from afina.runs.entries import check_entries
from afina.runs.forms import parse_file
from afina.runs.lock import find_holder
from afina.runs.lock import refuse as refuse_held
from afina.runs.names import BEGINNINGS, CONFIG, HISTORY, LOCK, REPORT, SEARCH, TASK, WORK
from afina.runs.task_file import check_task

RUNS = Path("runs")
FOR_OWNER = 0o700
"""Modes of a run's folder and of what it holds, which tells of the data. A folder that was there keeps its mode."""


class RunFolder:
    """The paths of one run."""

    def __init__(self, path: Path, made: Sequence[Path] = ()) -> None:
        self.path = path
        self.made = made
        """Folders that were made for it, the innermost first."""
        self.allowed_changes: frozenset[str] = frozenset()
        """What may have changed since it began, for a run that goes on: some of config, device, model, versions."""

    @property
    def config(self) -> Path:
        """The resolved description, written first."""
        return self.path / CONFIG

    @property
    def report(self) -> Path:
        """Written last: a run that has it is finished."""
        return self.path / REPORT

    @property
    def model(self) -> Path:
        """The result."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are while the run isn't finished."""
        return self.path / "checkpoints"

    @property
    def history(self) -> Path:
        """One line for every few steps and each evaluation."""
        return self.path / HISTORY

    @property
    def work(self) -> Path:
        """Rows and tokens on disk; removed when the run ends."""
        return self.path / WORK

    @property
    def is_finished(self) -> bool:
        """Whether everything was written."""
        return self.report.is_file()

    def write_json(self, name: str, value: Any, *, is_synced: bool = True) -> None:
        """Write one file whole: under another name, then renamed."""
        self.write_bytes(name, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(), is_synced=is_synced)

    def write_text(self, name: str, text: str) -> None:
        """Write one file whole: under another name, then renamed."""
        self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, content: bytes, *, is_synced: bool = True) -> None:
        """Write one file whole: under another name, then renamed.

        Args:
            is_synced: whether a power cut leaves it whole too; that takes the time of a disk.
        """
        unfinished = self.path / f".{name}.tmp"
        with open(unfinished, "wb", opener=open_private) as file:
            file.write(content)
            file.flush()
            if is_synced:  # else a power cut may leave an empty file under the new name
                os.fsync(file.fileno())
        os.replace(unfinished, self.path / name)
        if is_synced:
            sync_folder(self.path)

    def write_lines(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write one JSON object a line, whole: under another name, then renamed."""
        unfinished = self.path / f".{name}.tmp"
        with open(unfinished, "w", encoding="utf-8", opener=open_private) as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, self.path / name)

    def make_private(self) -> None:
        """Take from everybody else what libraries have written here for all to read: files and folders, not links."""
        for path in self.path.rglob("*"):
            if not path.is_symlink():
                with contextlib.suppress(OSError):  # somebody else's, or gone by now
                    path.chmod(FOR_OWNER if path.is_dir() else FILE_FOR_OWNER)

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the run, known to have the form that a run writes where `runs.forms` knows one.

        Raises:
            RunFolderError: if it is missing, damaged, or of another form.
        """
        try:
            return parse_file(name, (self.path / name).read_text(encoding="utf-8"), str(self.path / name))
        except FileNotFoundError:
            raise make_missing_error(self.path, name, self.config, is_finished=self.is_finished) from None
        except (OSError, ValueError, RecursionError) as error:
            found = describe_cause(error)
            raise RunFolderError(f"{self.path / name} can't be read", found=found, remedy=COPY) from None

    def write_task(self, value: dict[str, Any]) -> None:
        """task.json, with the bytes of each file in `model/`, which is complete by then, and checksums of weights."""
        files = measure_files(self.model)
        checksums = {name: compute_checksum(self.model / name) for name in files if holds_weights(name)}
        self.write_json(TASK, {**value, "files": files, "checksums": checksums})

    def read_task(self) -> dict[str, Any]:
        """task.json, known to have the form that a run writes.

        Raises:
            RunFolderError: if it is missing, damaged, or of another form.
        """
        stored = self.read_json(TASK)
        check_task(stored, str(self.path / TASK))
        return stored

    def read_description(self) -> RunConfig:
        """What config.yaml holds, be the run finished or not.

        Raises:
            ConfigError: if it can't be read.
            RunFolderError: if it is no run's.
        """
        config = load_config(self.config)
        if config.model.reference is None:
            raise make_description_error(self.config)
        return config

    def read_config(self) -> RunConfig:
        """The description of a finished run, in which everything is settled.

        Raises:
            ConfigError: if it can't be read.
            RunFolderError: if it is no run's, or something that a finished run has chosen is still to be chosen.
        """
        config = self.read_description()
        chosen = {
            "technique": config.technique,
            "model.max_seq_length": config.model.max_seq_length,
            "evaluation.eval_tokens_per_batch": config.evaluation.eval_tokens_per_batch,
        }
        if "auto" in chosen.values():
            raise RunFolderError(
                f"{self.config} is not that of a finished run",
                found=", ".join(f"{name}: {value}" for name, value in chosen.items()),
                expected="what the run has chosen instead of auto",
                remedy=COPY,
            )
        return config

    def check_finished(self) -> None:
        """Refuse a run that has not come to its end, such as one whose saved model was not what was trained.

        Raises:
            RunFolderError: with the command that goes on with it.
        """
        if not self.is_finished:
            raise make_missing_error(self.path, REPORT, self.config, is_finished=False)

    def check_model(self) -> None:
        """Refuse to use a run whose weights are gone, as those of a search's beaten trials are, whose model could harm,
        for a run may come from a stranger, or whose files aren't those that were written: libraries do without a
        tokenizer.json or some tensors, and give other answers.

        Raises:
            RunFolderError: with the command that trains it again, or the files that are missing or changed.
            ModelError: with what may not be in the model's folder.
        """
        if not self.model.is_dir():
            is_trial = (self.path.parent / SEARCH).is_file()
            has_data = self.read_description().data.path is not None
            raise make_no_model_error(self.path, self.config, is_trial=is_trial, has_data=has_data)
        check_saved_model(self.model)
        self.check_files()

    def check_files(self) -> None:
        """Refuse a model whose files aren't all there, its weights as the run wrote them. A person may edit a JSON of
        it, and other files may lie beside them.

        Raises:
            RunFolderError: with each file that is missing, or holds other weights.
        """
        task, found = self.read_task(), measure_files(self.model)
        written, checksums = task.get("files", {}), task.get("checksums", {})  # older runs kept none
        changed = [f"no {name}" for name in written if name not in found]
        for name in filter(holds_weights, written.keys() & found.keys()):
            if found[name] != written[name]:
                changed.append(f"{name} of {found[name]:,} bytes instead of {written[name]:,}")
            elif name in checksums and compute_checksum(self.model / name) != checksums[name]:
                changed.append(f"{name} with other content than was written")
        if changed:
            raise RunFolderError(
                f"the model in {self.model} is not what the run wrote",
                found=", ".join(sorted(changed)[:8]),
                expected="each file that task.json names, weights bit by bit",
                remedy=COPY,
            )

    def make_work(self) -> None:
        """The folder for rows and tokens, which nobody else can look into."""
        self.work.mkdir(FOR_OWNER, exist_ok=True)

    def clear_work(self, but: str | None = None) -> None:
        """Remove what only a running run needs.

        Args:
            but: name of what stays.
        """
        if but is None:
            shutil.rmtree(self.work, ignore_errors=True)
            return
        for entry in list(self.work.iterdir()) if self.work.is_dir() else ():
            if entry.name != but:
                remove(entry)

    def clear_beginning(self) -> None:
        """Remove what a kill left of a run that had hardly begun; the lock stays."""
        check_new(self.path)
        for entry in list(self.path.iterdir()):
            if entry.name != LOCK:
                remove(entry)

    def clear_remains(self) -> None:
        """Remove what a finished run has left that was killed before it could tidy up."""
        for entry in list(self.path.iterdir()):
            if entry.name in (self.work.name, self.checkpoints.name) or is_temporary(entry):
                remove(entry)

    def discard(self) -> None:
        """Leave everything as it was before the run: its files go, and the folders that were made for it."""
        for entry in list(self.path.iterdir()) if self.path.is_dir() else ():
            remove(entry)
        for folder in self.made:
            with contextlib.suppress(OSError):  # another run may be beside it
                folder.rmdir()


def measure_files(folder: Path) -> dict[str, int]:
    """Bytes of each file in the folder and in those below it, by its path from there, sorted."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def holds_weights(name: str) -> bool:
    """Whether a file of a model is one that nobody edits by hand."""
    return name.endswith(".safetensors")


def compute_checksum(path: Path) -> int:
    """The CRC-32 of a file's bytes: it finds damage at twice the speed of a hash that nobody can forge."""
    checksum = 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def remove(entry: Path) -> None:
    """Remove a file, a link or a folder, as far as that is possible."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def check_new(path: Path) -> None:
    """Refuse a folder that holds something already.

    Raises:
        RunFolderError: with what to do instead.
    """
    try:
        path.exists()
    except OSError as error:  # such as a name that is too long
        raise RunFolderError(
            f"{path} can't be the folder of a run", found=describe_cause(error), remedy="another --output"
        ) from None
    for name, what, verb in ((CONFIG, "a run", "resume"), (SEARCH, "a search", "search --resume")):
        if (path / name).exists():
            raise RunFolderError(
                f"{path} already holds {what}",
                remedy=f"another --output, or afina {verb} {shlex.quote(str(path))} to go on with that one",
            )
    if path.exists() and (not path.is_dir() or any(path.iterdir())) and not is_beginning(path):
        raise RunFolderError(
            f"{path} is not an empty folder", expected="a new or empty folder", remedy="another --output"
        )


def is_beginning(path: Path) -> bool:
    """Whether a folder holds nothing but what a run leaves that is killed before it can be resumed.

    Its lock file must be there: a data.json alone may be somebody's data.
    """
    return (path / LOCK).is_file() and all(
        entry.name in BEGINNINGS or is_temporary(entry) for entry in path.iterdir()
    )  # fmt: skip


def is_temporary(entry: Path) -> bool:
    """Whether a name is that of a file or folder that is being written."""
    return entry.name.startswith(".") and entry.name.endswith((".tmp", ".steps"))


class HasPath(Protocol):
    """What stands for its folder, such as `afina.Run`."""

    path: Path


AnyRun = str | Path | HasPath
"""How a run may be named."""


def find_path(run: AnyRun) -> Path:
    """The folder that a run is named by.

    Raises:
        RunFolderError: for what names none.
    """
    path = getattr(run, "path", run)
    if not isinstance(path, str | os.PathLike):
        raise RunFolderError(
            "this is no run", found=f"{path!r}"[:80], expected="the path of a run's folder, or what afina.fit gave",
            remedy="give each run by itself: afina.compare(run, other)" if isinstance(path, list | tuple) else "",
        )  # fmt: skip
    return expand_home(path)


def open_run(run: AnyRun) -> RunFolder:
    """An existing run, which nothing that is written into it can leave by a symbolic link, and in which nothing waits
    for ever to be read.

    Raises:
        RunFolderError: if there is none, or such links, pipes or the like are in it.
    """
    path = find_path(run)
    folder = RunFolder(path)
    if folder.is_finished and not folder.config.is_file():
        raise RunFolderError(f"{path} has no config.yaml, which every run has", remedy=COPY)
    if not folder.config.is_file():
        if (owner := find_holder(folder.path)) is not None:
            raise refuse_held(f"in {folder.path}", owner)
        what = "is not a run: it has no config.yaml" if folder.path.exists() else "doesn't exist"
        remedy = "afina runs, or afina.list_runs(), gives the runs here"
        if folder.path.is_dir() and is_beginning(folder.path):
            remedy = "start it again with afina train: it was killed before there was anything to go on with"
        if (folder.path / SEARCH).is_file():
            quoted = shlex.quote(str(path))
            what = "is the folder of a search, not a run"
            remedy = f"afina runs {quoted} gives its runs, afina search --resume {quoted} goes on with it"
        raise RunFolderError(f"{path} {what}", expected="the folder that afina train or afina.fit made", remedy=remedy)
    check_entries(folder.path)
    return folder
