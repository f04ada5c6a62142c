"""Runs side by side: scores with intervals, and the settings in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from afina.errors import ConfigError
from afina.runs.folder import RunFolder


def compare_runs(folders: Sequence[RunFolder]) -> dict[str, Any]:
    """`runs` (one mapping each) and `differences` (setting -> value in each run).

    Raises:
        ConfigError: for fewer than two runs, or runs of different tasks or test rows, whose scores say nothing.
    """
    if len(folders) < 2:
        raise ConfigError("comparing takes two runs or more", remedy="afina compare RUN RUN")
    reports = [folder.read_json("report.json") for folder in folders]
    check_comparable(folders, reports)
    settings = [dict(flatten(report["settings"])) for report in reports]
    keys = sorted({key for each in settings for key in each} - {"output"})
    differences = {
        key: [each.get(key) for each in settings] for key in keys
        if any(each.get(key) != settings[0].get(key) for each in settings)
    }  # fmt: skip
    return {
        "metric": f"test/{reports[0]['primary_metric']}",
        "runs": [summarise(r) for r in reports],
        "differences": differences,
    }


def check_comparable(folders: Sequence[RunFolder], reports: Sequence[Mapping[str, Any]]) -> None:
    """Refuse runs that were scored on other tasks or rows."""
    hashes = [folder.read_json("data.json")["hash"] for folder in folders]
    parts = [
        (report["task"], report["rows"]["parts"]["test"], known) for report, known in zip(reports, hashes, strict=True)
    ]
    if len(set(parts)) > 1:
        found = "; ".join(
            f"{folder.path}: {task}, {rows} test rows of data {known[:8]}"
            for folder, (task, rows, known) in zip(folders, parts, strict=True)
        )
        raise ConfigError(
            "the runs were scored on different tasks or rows", found=found,
            expected="runs over the same data, split by the same seed",
        )  # fmt: skip


def summarise(report: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in one column of the comparison."""
    return {
        "run": report["run"],
        "technique": report["technique"],
        "model": report["model"]["reference"],
        "metrics": {name: value for name, value in report["metrics"].items() if name.startswith("test/")},
        "intervals": report["intervals"],
        "trainable_parameters": report["trainable_parameters"],
        "duration_seconds": report["duration_seconds"],
        "peak_memory_bytes": report["peak_memory_bytes"],
    }


def flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as (path, value)."""
    flat: list[tuple[str, Any]] = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.extend(flatten(value, f"{prefix}{name}."))
        else:
            flat.append((prefix + name, value))
    return flat
