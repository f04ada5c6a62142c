"""afina runs"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from afina.cli.output import JSON_OPTION, print_json, print_table, show


def runs(
    root: str = typer.Argument("runs", metavar="FOLDER", help="Folder that holds the runs."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List the runs, newest first."""
    from afina.finished import list_runs

    found = list_runs(root)
    if as_json:
        print_json({"runs": found})
        return
    if not found:
        show(f"no runs under {root}/")
        return
    rows = [
        [each["run"], describe_state(each), each.get("technique", "-"), each.get("metric", "-"),
         f"{each['score']:.3f}" if "score" in each else "-", str(each.get("model", "-"))]
        for each in found
    ]  # fmt: skip
    print_table(f"runs under {root}/", ["run", "state", "technique", "metric", "score", "model"], rows)
    for reason in (each["reason"] for each in found if "reason" in each):
        show(f"damaged: {reason}", on_stderr=True)


def describe_state(run: Mapping[str, Any]) -> str:
    """`finished`, or `running 41/123` where steps are known."""
    has_steps = {"step", "total_steps"} <= run.keys()
    return f"{run['state']} {run['step']}/{run['total_steps']}" if has_steps else str(run["state"])
