"""What a trial that chose its technique by itself turned out to be."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from afina.advice.search.entry import Entry, Moved, Outcome
from afina.advice.search.space import POOLING
from afina.config.techniques import FIRST_LOOK, TRAITS

Configuration = tuple[str, dict[str, Any]]
"""A technique and its settings, by path; only those that aren't its default."""


def describe_choice(report: Mapping[str, Any], given: Collection[str]) -> Outcome:
    """Of a finished run: `technique` and `settings` of the result, the same in `moved` of what was trained (None where
    the head was kept at once), the `pooling` that the head was best on, and `choose_seconds` that looking took.

    Args:
        given: paths of settings that all trials share.
    """
    choice = report["choice"]
    pooling = choice.get("pooling")

    def settle(technique: str) -> Moved:
        reads_other = TRAITS[technique].moves == "all" and pooling not in (None, "own") and POOLING not in given
        return {"technique": technique, "settings": {POOLING: pooling} if reads_other else {}}

    settled = settle(report["technique"])
    return {
        "technique": settled["technique"],
        "settings": settled["settings"],
        "moved": settle(choice["technique"]) if choice["technique"] != FIRST_LOOK else None,
        "pooling": pooling,
        "choose_seconds": report["stage_seconds"].get("choose", 0.0),
    }


def list_known(entry: Entry) -> list[Configuration]:
    """The configurations that a trial has tried: its own, and where it chose, the head on the pooling that is best for
    it, and last the one that its training was spent on."""
    known = [(entry["technique"], dict(entry["settings"]))]
    if entry.get("pooling"):
        known.append((FIRST_LOOK, {POOLING: entry["pooling"]}))
    moved = entry.get("moved")
    return [*known, (moved["technique"], dict(moved["settings"]))] if moved else known
