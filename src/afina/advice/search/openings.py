"""What a search tries first: the default, and then what is known by that time to be the next best guesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from afina.advice.search.space import POOLING, Space
from afina.config.techniques import AUTO, FIRST_LOOK, MOVING, TRAITS


def list_openings(space: Space, techniques: Sequence[str], first: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The study's parameters of the first trials, in their order; none for one that chooses its technique itself.

    Args:
        techniques: in the order of their first trials.
        first: the entry of the first trial, once it has ended.
    """
    if techniques[0] != AUTO:
        located = [space.locate(technique, {}) for technique in techniques]
    else:
        located = [{}, *(space.locate(*guess) for guess in (guess_next(space, first) if first else []))]
    return [each for each in located if each is not None]


def guess_next(space: Space, first: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Technique and settings of the trials after one that chose its technique from evidence.

    The head that it solved costs seconds, so it comes next where it isn't the result already. Then the technique that
    moves the backbone, under the pooling that the head was best on and by each objective that is searched. Another one
    that moves it follows only where this one wasn't better than the head: with the memory for both there is no reason
    to expect more of LoRA than of all weights.
    """
    moved = first["moved"]
    available = [name for name in MOVING if any(arm.technique == name for arm in space.arms.values())]
    mover = moved["technique"] if moved else next(iter(available), "")
    is_told = mover and TRAITS[mover].moves == "all" and is_other(space, first["pooling"])
    pooling = {POOLING: first["pooling"]} if is_told else {}
    guesses: list[tuple[str, dict[str, Any]]] = [(FIRST_LOOK, {})]
    guesses += [(mover, {**arm.settings, **pooling}) for arm in space.arms.values() if arm.technique == mover]
    if first["technique"] != mover:
        guesses += [(name, {}) for name in available if name != mover]
    known = [(each["technique"], dict(each["settings"])) for each in (first, moved) if each]
    return [guess for guess in guesses if guess not in known]


def is_other(space: Space, pooling: str | None) -> bool:
    """Whether full fine-tuning would be told this pooling: one that is searched, and not what it takes by itself."""
    full = next((arm for arm in space.arms.values() if TRAITS[arm.technique].moves == "all"), None)
    return full is not None and any(each.setting == POOLING and pooling in each.choices for each in full.dimensions)
