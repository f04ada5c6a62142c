"""The runs of a folder in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from afina.errors import AfinaError, RunFolderError, describe_cause
from afina.models.resolve import name_model
from afina.runs.entries import check_entries
from afina.runs.folder import RUNS, RunFolder
from afina.runs.names import CONFIG, REPORT
from afina.runs.status import read_state


def list_runs(root: Path) -> list[dict[str, Any]]:
    """One mapping for each run under `root`, newest first; an unfinished one has no score, but where it stands.

    Raises:
        RunFolderError: if there is no such folder; the usual one is only made by the first run.
    """
    if root != RUNS and not root.is_dir():
        raise RunFolderError(
            f"{root} is a file" if root.exists() else f"the folder {root} doesn't exist",
            expected="a folder that holds runs", remedy=f"leave it out for those under {RUNS}/",
        )  # fmt: skip
    folders = [RunFolder(path.parent) for path in root.glob(f"*/{CONFIG}")]
    folders.sort(key=find_time, reverse=True)
    return [describe_whole(folder) for folder in folders]


def find_time(folder: RunFolder) -> float:
    """When its description was written; 0 where that can't be seen."""
    try:
        return folder.config.stat().st_mtime
    except OSError:
        return 0.0


def describe_whole(folder: RunFolder) -> dict[str, Any]:
    """`describe_run`, or `damaged` and the `reason` of a run with a damaged file, which hides no other."""
    try:
        check_entries(folder.path)
        return describe_run(folder)
    except (AfinaError, OSError) as error:
        reason = str(error) if isinstance(error, AfinaError) else f"{folder.path}: {describe_cause(error)}"
        return {"run": str(folder.path), "state": "damaged", "reason": reason}


def describe_run(folder: RunFolder) -> dict[str, Any]:
    """Path, state, steps so far, technique and model, and for a finished run: task, main score and its interval.

    Raises:
        UserError: if a file of it is damaged.
    """
    if not folder.is_finished:
        config = folder.read_description()
        known = {"technique": config.technique, "model": name_model(str(config.model.reference))}
        return {"run": str(folder.path), **read_state(folder), **known}
    report = folder.read_json(REPORT)
    metric = f"{report.get('scored', 'test')}/{report['primary_metric']}"
    return {
        "run": str(folder.path),
        "state": "finished",
        "task": report["task"],
        "technique": report["technique"],
        "model": report["model"]["reference"],
        "metric": metric,
        "score": report["metrics"][metric],
        "interval": report["intervals"].get(metric),
        "duration_seconds": report["duration_seconds"],
    }
