"""afina compare"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from afina.cli.output import JSON_OPTION, print_json, print_table, show
from afina.summary import choose_metrics, format_score

GIB = 2**30
# What a difference that rounds to nothing is called, by its unit.
EQUAL = {"s": "as long", "GiB": "as much memory"}


def compare(
    runs: list[str] = typer.Argument(
        ..., metavar="RUN", help="Folders of two finished runs or more; the first is the measure."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Set runs side by side: scores with intervals, what each difference is worth and costs, settings that differ."""
    from afina.finished import compare as compare_runs

    result = compare_runs(*runs)
    if as_json:
        print_json(result)
        return
    print_scores(result)
    for note in result["notes"]:
        show(f"note: {note}")
    for each in result["paired"]:
        print_pair(each)
    if result["differences"]:
        rows = [[key, *(str(value) for value in values)] for key, values in result["differences"].items()]
        print_table("settings that differ", ["setting", *(each["run"] for each in result["runs"])], rows)


def print_scores(result: Mapping[str, Any]) -> None:
    """The table of scores and costs."""
    entries, part = result["runs"], result["part"]
    metrics = choose_metrics(entries[0]["metrics"], result["metric"].partition("/")[2], part)
    rows = [
        [
            each["run"], each["technique"],
            *(format_score(each["metrics"], each["intervals"], f"{part}/{name}") for name in metrics),
            f"{each['trainable_parameters']:,}", f"{each['duration_seconds']:.1f}",
            f"{each['peak_memory_bytes'] / GIB:.2f}",
        ]
        for each in entries
    ]  # fmt: skip
    print_table(f"held-out scores ({part} rows)", ["run", "technique", *metrics, "trainable", "seconds", "GiB"], rows)


def print_pair(pair: Mapping[str, Any]) -> None:
    """One run against the first, in a few lines: what limits the verdict stands before it."""
    for note in pair["notes"]:
        show(f"note on {pair['run']}: {note}")
    show(f"{pair['run']} against {pair['against']}: {pair['verdict']}")
    hits = pair["mcnemar"]
    if hits:
        show(
            f"  rows right in one only: {hits['only_second']} here, {hits['only_first']} there;"
            f" McNemar p = {hits['p']:.3g} ({hits['method']})"
        )
    show(f"  {describe_cost(pair['cost'])}")


def describe_cost(cost: Mapping[str, Any]) -> str:
    """What it takes more or less, and what that is for each point gained."""
    text = f"takes {describe_change(cost['seconds'], 's', 1)} and {describe_change(cost['bytes'] / GIB, 'GiB', 2)}"
    if cost["gained"] is None:
        return text
    if cost["seconds_per_unit"] is None:
        return f"{text}, for no gain"
    seconds = describe_change(cost["seconds_per_unit"], "s", 1)
    memory = describe_change(cost["bytes_per_unit"] / GIB, "GiB", 3)
    return f"{text}; for each {cost['unit']} gained: {seconds} and {memory}"


def describe_change(amount: float, unit: str, digits: int) -> str:
    """`16.3 s less`, or `as long` where it rounds to nothing."""
    if round(amount, digits) == 0:
        return EQUAL[unit]
    return f"{abs(amount):.{digits}f} {unit} {'more' if amount > 0 else 'less'}"
