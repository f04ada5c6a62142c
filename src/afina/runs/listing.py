"""The runs of a folder in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from afina.errors import RunFolderError
from afina.runs.folder import CONFIG, RUNS, RunFolder
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
    folders.sort(key=lambda folder: folder.config.stat().st_mtime, reverse=True)
    return [describe_run(folder) for folder in folders]


def describe_run(folder: RunFolder) -> dict[str, Any]:
    """Path, state, steps so far, and for a finished run: task, technique, model, main score and its interval."""
    if not folder.is_finished:
        return {"run": str(folder.path), **read_state(folder)}
    report = folder.read_json("report.json")
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
