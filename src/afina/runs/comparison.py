"""Runs side by side: scores with intervals, what each difference is worth, what it costs, and which settings differ.

The first run is the one that the others are held against.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from afina.config.load import flatten_settings
from afina.config.techniques import POOLING_READERS
from afina.config.unread import leave_unread_out
from afina.errors import ConfigError
from afina.runs.folder import RunFolder
from afina.runs.names import DATA, REPORT, ROW_SCORES
from afina.runs.paired_comparison import compare_pair
from afina.runs.row_scores import read_row_scores

Report = Mapping[str, Any]


def compare_runs(folders: Sequence[RunFolder]) -> dict[str, Any]:
    """The comparison as one mapping:

    `metric`, `part` (whose rows are compared), `runs` (one mapping each), `paired` (each later run against the first,
    on the rows that both scored), `differences` (setting -> value in each run) and `notes`.

    Raises:
        ConfigError: for fewer than two runs, or runs of different tasks or without common rows.
    """
    if len(folders) < 2:
        raise ConfigError("comparing takes two runs or more", remedy="afina compare RUN RUN")
    reports = [folder.read_json(REPORT) for folder in folders]
    part, notes = choose_part(reports)
    notes += [f"{path} is compared with itself" for path in list_repeated(folders)]
    paired = [compare_pair(folders[0], reports[0], *other, part) for other in zip(folders, reports, strict=True)][1:]
    check_comparable(folders, reports, part, [each is not None for each in paired])
    pairs = zip(folders[1:], paired, strict=True)
    notes += [explain_unpaired(folders[0], folder, part) for folder, pair in pairs if pair is None]
    return {
        "metric": f"{part}/{reports[0]['primary_metric']}",
        "part": part,
        "runs": [summarise(report, part) for report in reports],
        "paired": [each for each in paired if each is not None],
        "differences": list_differences(reports),
        "notes": notes,
    }


def explain_unpaired(first: RunFolder, second: RunFolder, part: str) -> str:
    """Why nothing is said of whether chance explains the difference between two runs."""
    without = [str(folder.path) for folder in (first, second) if not read_row_scores(folder, part)]
    why = f"{' and '.join(without)} kept no scores of single {part} rows ({ROW_SCORES})"
    return (
        f"whether chance explains the difference between {second.path} and {first.path} isn't known:"
        f" {why if without else f'no {part} row was scored by both'}"
    )


def list_repeated(folders: Sequence[RunFolder]) -> list[str]:
    """The runs that were named more than once."""
    named = Counter(folder.path.resolve() for folder in folders)
    first = {folder.path.resolve(): str(folder.path) for folder in reversed(folders)}
    return [first[path] for path, times in named.items() if times > 1]


def choose_part(reports: Sequence[Report]) -> tuple[str, list[str]]:
    """The part to compare on: the test part, or the validation part where a run left its test part alone."""
    left_alone = [str(report["run"]) for report in reports if report.get("scored", "test") == "validation"]
    if not left_alone:
        return "test", []
    return "validation", [
        "compared on the validation rows, which also chose the checkpoints:"
        f" {', '.join(left_alone)} left the test part alone"
    ]


def check_comparable(
    folders: Sequence[RunFolder], reports: Sequence[Report], part: str, have_common_rows: Sequence[bool]
) -> None:
    """Refuse runs of other tasks, and runs over other data whose scored rows have nothing in common."""
    hashes = [folder.read_json(DATA)["hash"] for folder in folders]
    parts = [
        (report["task"], report["rows"]["parts"][part], known) for report, known in zip(reports, hashes, strict=True)
    ]
    is_one_task = len({(report["task"], report.get("kind")) for report in reports}) == 1
    if is_one_task and (len(set(parts)) == 1 or all(have_common_rows)):
        return
    found = "; ".join(
        f"{folder.path}: {task}, {rows} {part} rows of data {known[:8]}"
        for folder, (task, rows, known) in zip(folders, parts, strict=True)
    )
    raise ConfigError(
        "the runs were scored on different tasks or rows", found=found,
        expected="runs over the same data, split by the same seed",
        remedy="afina evaluate RUN DATA scores each of them on rows that you name",
    )  # fmt: skip


def list_differences(reports: Sequence[Report]) -> dict[str, list[Any]]:
    """The settings in which the runs differ, with the value of each run; but for one that any doesn't read."""
    settings = [list_settings(report) for report in reports]
    keys = sorted(set.intersection(*map(set, settings)) - {"output"})
    return {
        key: [each[key] for each in settings] for key in keys if any(each[key] != settings[0][key] for each in settings)
    }


def list_settings(report: Report) -> dict[str, Any]:
    """The settings of a run by their paths; one left to `auto` as what was chosen, where the reasons tell."""
    chosen = {reason["setting"]: reason["value"] for reason in report["reasons"]}
    settings = dict(flatten_settings(leave_unread_out(report["settings"], report["technique"])))
    if report["technique"] not in POOLING_READERS:
        settings.pop("features.pooling", None)
    return {key: chosen.get(key, value) if value == "auto" else value for key, value in settings.items()}


def summarise(report: Report, part: str) -> dict[str, Any]:
    """What stands in one column of the comparison."""
    return {
        "run": report["run"],
        "technique": report["technique"],
        "model": report["model"]["reference"],
        "metrics": {name: value for name, value in report["metrics"].items() if name.startswith(f"{part}/")},
        "intervals": {name: bounds for name, bounds in report["intervals"].items() if name.startswith(f"{part}/")},
        "trainable_parameters": report["trainable_parameters"],
        "duration_seconds": report["duration_seconds"],
        "peak_memory_bytes": report["peak_memory_bytes"],
    }
