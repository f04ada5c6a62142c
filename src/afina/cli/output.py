"""How results are printed: tables for people, one JSON object for programs. Only results go to stdout."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from afina.summary import describe_outcome, tabulate_scores
from afina.terminal import align_columns, make_printable, make_printable_json

JSON_OPTION = typer.Option(False, "--json", help="Print one JSON object on stdout, and nothing else there.")
QUIET_OPTION = typer.Option(False, "--quiet", help="Say nothing on the way.")
SET_OPTION = typer.Option(
    [], "--set", metavar="KEY=VALUE", help="Any other setting; repeatable. --KEY VALUE does the same."
)

ALLOW_OPTION = typer.Option(
    "", metavar="NAMES", help="What may have changed since it began: some of config,device,model,versions."
)
ROWS_OPTION = typer.Option(None, "--data", metavar="DATA", help="Where the same rows are now, if they were moved.")


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


def print_run(report: Mapping[str, Any]) -> None:
    """A run's scores beside its baselines, what it cost, and where to go on."""
    print_table(*tabulate_scores(report))
    show("\n".join(describe_outcome(report)))
    run = shlex.quote(report["run"])
    if report["kind"] == "generation":
        show(f"use it  afina chat {run}")
        show(f"use it  afina predict {run} prompts.jsonl --output answers.jsonl")
    else:
        show(f"use it  afina predict {run} FILE --output predictions.csv")


def select_output(report: Mapping[str, Any]) -> dict[str, Any]:
    """What `--json` prints of a run."""
    names = (
        "run", "task", "technique", "reasons", "metrics", "intervals", "baselines", "trainable_parameters",
        "total_parameters", "duration_seconds", "peak_memory_bytes", "rows", "notes", "load", "kept_step", "scored",
    )  # fmt: skip
    return {**{name: report[name] for name in names}, "model": f"{report['run']}/model"}
