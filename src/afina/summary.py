"""A run's outcome in a few lines: its scores beside those of its baselines, what it cost, and where it lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from afina.terminal import align_columns, make_printable

SHOWN = (
    "accuracy", "f1", "precision", "recall", "f1_macro", "f1_micro", "f1_weighted", "mcc", "subset_accuracy", "rmse",
    "mae", "r2", "spearman",
)  # fmt: skip
SHOWN_OF_LANGUAGE = ("loss", "perplexity", "token_accuracy", "general_loss")
MOST_SHOWN = 4
IN_UNITS_OF_DATA = ("/rmse", "/mae")


def summarise_run(report: Mapping[str, Any]) -> str:
    """The outcome as text."""
    title, header, rows = tabulate_scores(report)
    return make_printable("\n".join([title, *align_columns(header, rows), *describe_outcome(report)]))


def tabulate_scores(report: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Title, names of the columns, and a row for each baseline and for the run."""
    scored = report["scored"]
    metrics = choose_metrics(report["metrics"], report["primary_metric"], scored)
    entries = [
        (name, each["metrics"], each["intervals"], each["seconds"]) for name, each in report["baselines"].items()
    ]
    entries.append((report["technique"], report["metrics"], report["intervals"], report["duration_seconds"]))
    rows = [
        [name, *(format_score(scores, intervals, f"{scored}/{metric}") for metric in metrics), format_seconds(seconds)]
        for name, scores, intervals, seconds in entries
    ]
    part = "" if scored == "test" else f" {scored}"
    title = f"held-out scores on {report['rows']['parts'][scored]:,}{part} rows"
    return title, ["", *metrics, "seconds"], rows


def describe_outcome(report: Mapping[str, Any]) -> list[str]:
    """What the run cost, and where its model and its report are."""
    return [
        describe_costs(report),
        f"model   {report['run']}/model  ({report['load']['layout']}: {report['load']['why']})",
        f"report  {report['run']}/report.html",
    ]


def describe_costs(report: Mapping[str, Any]) -> str:
    """Peak memory and time, and what they were predicted to be."""
    measured = f"{report['peak_memory_bytes'] / 2**30:.2f} GiB", f"{report['duration_seconds']:.1f} s"
    prediction = report.get("prediction")
    if not prediction:
        return f"peak memory {measured[0]}, {measured[1]}"
    predicted = [f"{prediction['memory_bytes']['total'] / 2**30:.2f} GiB", "?"]
    if prediction["seconds"]:
        predicted[1] = f"{prediction['seconds']['total']:.1f} s"
    return f"peak memory {measured[0]} (predicted {predicted[0]}), {measured[1]} (predicted {predicted[1]})"


def choose_metrics(scores: Mapping[str, float], primary: str, part: str = "test") -> list[str]:
    """The names of a part's scores worth a column; the one by which checkpoints and runs are compared stands first."""
    shown = SHOWN_OF_LANGUAGE if f"{part}/perplexity" in scores else SHOWN
    present = [name for name in shown if f"{part}/{name}" in scores]
    return sorted(present, key=lambda name: name != primary)[:MOST_SHOWN]


def format_seconds(seconds: float | None) -> str:
    """`4.7`, or a dash for what took no time of its own."""
    return "-" if seconds is None else f"{seconds:.1f}"


def format_score(scores: Mapping[str, float], intervals: Mapping[str, Sequence[float]], name: str) -> str:
    """`0.887 [0.865, 0.908]`, or without the interval, or a dash."""
    if name not in scores:
        return "-"
    bounds = intervals.get(name, ())
    write = choose_format(scores[name], *bounds) if name.endswith(IN_UNITS_OF_DATA) else "{:.3f}".format
    return f"{write(scores[name])} [{', '.join(map(write, bounds))}]" if bounds else write(scores[name])


def choose_format(*scores: float) -> Callable[[float], str]:
    """Three decimals, or for errors of very small or large numbers four digits."""
    largest = max((abs(score) for score in scores), default=0.0)
    return "{:.3f}".format if largest == 0 or 0.05 <= largest < 1e6 else "{:.4g}".format
