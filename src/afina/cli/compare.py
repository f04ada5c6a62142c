"""afina compare"""

from __future__ import annotations

import typer

from afina.cli.output import JSON_OPTION, choose_metrics, format_score, print_json, print_table


def compare(
    runs: list[str] = typer.Argument(..., metavar="RUN", help="Folders of two finished runs or more."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Set runs over the same data side by side: scores with intervals, costs, and the settings that differ."""
    from afina.api import compare as compare_runs

    result = compare_runs(*runs)
    if as_json:
        print_json(result)
        return
    entries = result["runs"]
    metrics = choose_metrics(entries[0]["metrics"], result["metric"].removeprefix("test/"))
    rows = [
        [
            each["run"], each["technique"],
            *(format_score(each["metrics"], each["intervals"], f"test/{name}") for name in metrics),
            f"{each['trainable_parameters']:,}", f"{each['duration_seconds']:.1f}",
            f"{each['peak_memory_bytes'] / 2**30:.2f}",
        ]
        for each in entries
    ]  # fmt: skip
    print_table("held-out scores", ["run", "technique", *metrics, "trainable", "seconds", "GiB"], rows)
    if result["differences"]:
        rows = [[key, *(str(value) for value in values)] for key, values in result["differences"].items()]
        print_table("settings that differ", ["setting", *(each["run"] for each in entries)], rows)
