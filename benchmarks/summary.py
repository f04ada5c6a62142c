"""From measurements to a table: medians, spread, and how many times as long as afina each peer took."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

Measurement = dict[str, Any]

# Which peers do the same kind of work as which technique of afina.
PEERS = {
    "afina-full": ("trainer-best", "tutorial"), "afina-features": ("encode-logistic", "tutorial-frozen"),
    "afina-features-again": ("encode-logistic",),
}  # fmt: skip
MEDIANS = (
    "seconds", "seconds_measured", "train_seconds", "step_ms", "rows_per_second", "tokens_per_second",
    "peak_memory_bytes", "accuracy", "f1_macro",
)  # fmt: skip
HEADER = (
    "",
    "seconds",
    "least-most",
    "training s",
    "step ms",
    "rows/s",
    "tokens/s",
    "peak GiB",
    "accuracy",
    "macro F1",
)


def score_labels(predictions: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    """Accuracy and macro F1 over the classes that were true or predicted; the same function for every entry."""
    if len(predictions) != len(labels):
        raise ValueError(f"{len(predictions)} predictions for {len(labels)} rows")
    pairs = list(zip(predictions, labels, strict=True))
    scores = []
    for name in {*predictions, *labels}:
        hits = sum(predicted == true == name for predicted, true in pairs)
        scores.append(2 * hits / sum((predicted == name) + (true == name) for predicted, true in pairs))
    accuracy = sum(predicted == true for predicted, true in pairs) / len(pairs)
    return {"accuracy": accuracy, "f1_macro": sum(scores) / len(scores)}


def summarise(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """One entry each: medians, least and most seconds and accuracy, and how much was extrapolated."""
    rows = []
    for entry in dict.fromkeys(each["entry"] for each in measurements):
        own = [each for each in measurements if each["entry"] == entry]
        seconds = [each["seconds"] for each in own]
        accuracies = [each["accuracy"] for each in own if each["accuracy"] is not None]
        rows.append({
            "entry": entry, "measurements": len(own), **{name: find_median(own, name) for name in MEDIANS},
            "seconds_range": [min(seconds), max(seconds)],
            "accuracy_range": [min(accuracies), max(accuracies)] if accuracies else None,
            "steps": own[0]["steps"], "steps_timed": own[0]["steps_timed"],
            "is_extrapolated": any(each["extra_seconds"] > 0 for each in own), "flags": own[0]["flags"],
        })  # fmt: skip
    by_name = {row["entry"]: row for row in rows}
    for row in rows:
        row["times_afina"] = compare_with_afina(row["entry"], by_name)
    return rows


def find_median(measurements: Sequence[Measurement], name: str) -> float | None:
    """The median of a figure; None where an entry has none."""
    values = [each[name] for each in measurements if each[name] is not None]
    return median(values) if values else None


def compare_with_afina(entry: str, by_name: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Median seconds of the whole process over those of each entry of afina that does the same kind of work."""
    return {
        own: by_name[entry]["seconds"] / by_name[own]["seconds"]
        for own, peers in PEERS.items()
        if entry in peers and own in by_name
    }


def print_summary(setting: dict[str, Any], measurements: Sequence[Measurement]) -> None:
    """The table, the ratios, the flags and the machine."""
    from rich.console import Console
    from rich.table import Table

    rows = summarise(measurements)
    console = Console()
    if not console.is_terminal:
        console = Console(width=130)
    table = Table(title=f"medians of {rows[0]['measurements']} measurement(s) each", title_justify="left")
    for name in HEADER:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for row in rows:
        table.add_row(*format_row(row))
    console.print(table)
    for row in rows:
        if row["is_extrapolated"]:
            say(console, f"* {row['entry']}: extrapolated from {row['steps_timed']} of {row['steps']} steps; no score")
    for row in rows:
        for own, times in row["times_afina"].items():
            mark = " *" if row["is_extrapolated"] else ""
            say(console, f"{row['entry']} took {times:.2f} times as long as {own}{mark}")
    for row in rows:
        say(console, f"{row['entry']}: " + ", ".join(f"{name}={value}" for name, value in row["flags"].items()))
    say(console, ", ".join(f"{name} {value}" for name, value in setting["machine"].items()))
    say(console, ", ".join(f"{name} {version}" for name, version in setting["versions"].items()))


def say(console: Any, text: str) -> None:
    """A line as it is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def format_row(row: dict[str, Any]) -> list[str]:
    """Cells of one entry; a dash where it has no such figure, a star where the figure was extrapolated."""
    star = "*" if row["is_extrapolated"] else ""
    least, most = row["seconds_range"]
    step_ms = "-" if row["step_ms"] is None else f"{row['step_ms']:.0f}"
    scores = ["-" if row[name] is None else f"{row[name]:.3f}" for name in ("accuracy", "f1_macro")]
    return [
        row["entry"],
        f"{row['seconds']:.1f}{star}",
        f"{least:.1f}-{most:.1f}{star}",
        f"{row['train_seconds']:.1f}{star}",
        step_ms,
        f"{row['rows_per_second']:,.0f}{star}",
        f"{row['tokens_per_second']:,.0f}{star}",
        f"{row['peak_memory_bytes'] / 2**30:.2f}",
        *scores,
    ]
