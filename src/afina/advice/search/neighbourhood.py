"""Where a search looks between its first trials and those that its study proposes: beside the best trial so far."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from afina.advice.search.entry import Entry
from afina.advice.search.openings import is_other
from afina.advice.search.space import POOLING, Space
from afina.advice.search.study import STARTUP_TRIALS
from afina.config.techniques import TRAITS


def choose_neighbourhood(
    space: Space, ranked: Sequence[Entry], mine: Sequence[Entry], openings: int
) -> dict[str, Any] | None:
    """The study's parameters that stay: all but two of the best trial; None where the study may propose a whole point.

    It would go on proposing the arm that does best, even one whose few settings have all been tried, so after
    proposals that were passed over the arms take turns, each beside its own best trial.

    Args:
        ranked: the trials with a score of all machines, best first.
        mine: those of this search in their order, with what was passed over.
        openings: how many trials the search began with.
    """
    skipped = len(list(takewhile(lambda entry: entry["state"] == "skipped", reversed(mine))))
    ran = len([entry for entry in mine if entry["state"] != "skipped"])
    if not skipped and ran >= STARTUP_TRIALS:
        return None
    names = list(space.arms)
    arms = [space.find_arm(entry["technique"], entry["settings"]) for entry in ranked]
    best = next((arm.name for arm in arms if arm is not None), names[0])
    name = names[(names.index(best) + skipped) % len(names)]
    pooling = next((entry.get("pooling") for entry in mine), None)
    # Which setting is free beside the rate goes round with the trials, and in each arm with those passed over.
    turn = max(0, ran - openings) + skipped // len(names)
    return space.loosen(find_centre(space, name, ranked, pooling), turn)


def find_centre(space: Space, name: str, ranked: Sequence[Entry], pooling: str | None) -> dict[str, Any]:
    """The parameters of the best trial of an arm, or of its default where none has a score.

    Args:
        ranked: entries with a score, best first.
        pooling: what the head was best on, if that is known.
    """
    arm = space.arms[name]
    for entry in ranked:
        found = space.locate(entry["technique"], entry["settings"])
        if found is not None and space.find_arm(entry["technique"], entry["settings"]) is arm:
            return found
    told = {POOLING: pooling} if TRAITS[arm.technique].moves == "all" and is_other(space, pooling) else {}
    return space.locate(arm.technique, {**arm.settings, **told}) or {}
