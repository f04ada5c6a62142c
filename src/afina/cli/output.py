"""How results are printed: tables for people, one JSON object for programs. Only results go to stdout."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from afina.terminal import make_printable, make_printable_json

JSON_OPTION = typer.Option(False, "--json", help="Print one JSON object on stdout, and nothing else there.")
QUIET_OPTION = typer.Option(False, "--quiet", help="Say nothing on the way.")
SET_OPTION = typer.Option([], "--set", metavar="KEY=VALUE", help="Any other setting; repeatable.")

ALLOW_OPTION = typer.Option(
    "", metavar="NAMES", help="What may have changed since it began: some of config,device,model,versions."
)
ROWS_OPTION = typer.Option(None, "--data", metavar="DATA", help="Where the same rows are now, if they were moved.")

SHOWN = (
    "accuracy", "f1", "precision", "recall", "f1_macro", "f1_micro", "f1_weighted", "mcc", "subset_accuracy", "rmse",
    "mae", "r2", "spearman",
)  # fmt: skip
SHOWN_OF_LANGUAGE = ("loss", "perplexity", "token_accuracy", "general_loss")
MOST_SHOWN = 4


def option(metavar: str, text: str) -> Any:
    """A flag that is checked together with all others, and refused in our own words. `text` says what it takes."""
    return typer.Option(None, metavar=metavar, help=text)


def show(text: str, *, on_stderr: bool = False) -> None:
    """Print a line, or several, without the control characters that names and texts from outside may hold."""
    print(make_printable(text), file=sys.stderr if on_stderr else sys.stdout)


def print_json(value: Any) -> None:
    """One JSON object."""
    print(make_printable_json(json.dumps(value, ensure_ascii=False, indent=2)))


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose first column is text and whose others are numbers; in plain text where no terminal shows it."""
    if not sys.stdout.isatty():
        show("\n".join([title, *align_columns(header, rows)]))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold")
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(make_printable(cell)) for cell in row))
    Console().print(table)


def align_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right, nothing cut."""
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    cells = [[name.ljust(widths[0]), *map(str.rjust, rest, widths[1:])] for name, *rest in lines]
    return [f"  {'   '.join(line)}".rstrip() for line in cells]


def print_run(report: Mapping[str, Any]) -> None:
    """A run's scores beside its baselines, what it cost, and where to go on."""
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
    print_table(f"held-out scores on {report['rows']['parts'][scored]:,}{part} rows", ["", *metrics, "seconds"], rows)
    show(describe_costs(report))
    show(f"model   {report['run']}/model  ({report['load']['layout']}: {report['load']['why']})")
    show(f"report  {report['run']}/report.html")
    run = shlex.quote(report["run"])
    if report["kind"] == "generation":
        show(f"use it  afina chat {run}")
        show(f"use it  afina predict {run} prompts.jsonl --output answers.jsonl")
    else:
        show(f"use it  afina predict {run} FILE --output predictions.csv")


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
    text = f"{scores[name]:.3f}"
    if name in intervals:
        low, high = intervals[name]
        text += f" [{low:.3f}, {high:.3f}]"
    return text
