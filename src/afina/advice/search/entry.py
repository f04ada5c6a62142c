"""What a search keeps of a trial, in its study and in search.json."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict, cast


class Moved(TypedDict):
    """What a trial that chose by itself has trained."""

    technique: str
    settings: dict[str, Any]


class Outcome(TypedDict, total=False):
    """What becomes of a trial; from its start an entry has all but what is told of some trials only."""

    state: Literal["running", "finished", "stopped", "failed", "short", "skipped"]
    """`stopped` before its end with a score, `short` of time, `skipped` before it began."""
    why: str
    """Of what isn't finished; else empty."""
    epochs: int
    """Those that were scored."""
    score: float | None
    seconds: float
    train_seconds: float
    budget_seconds: float
    """Of the search, where time was what the trial lacked."""
    technique: str
    settings: dict[str, Any]
    moved: Moved | None
    """Where the technique was chosen: what was trained; None where the head was kept at once."""
    pooling: str | None
    """Where the technique was chosen: what the head was best on."""
    choose_seconds: float
    """Where the technique was chosen: what looking took."""


class Entry(Outcome):
    """A trial."""

    trial: int
    """Its number in the study."""
    search: str
    """Key of the search that ran it; others may share the storage."""
    place: int
    """Its number in that search."""
    asked: str
    """The technique that it was asked for; `auto` where it chose by itself."""
    opening: NotRequired[int | None]
    """Its number among the first trials, if it is one."""
    run: str
    """Its folder."""
    host: str
    is_told: NotRequired[bool]
    """Whether the study knows how it ended."""


def join_outcome(entry: Entry, outcome: Outcome) -> Entry:
    """The entry with what became of the trial."""
    return cast(Entry, {**entry, **outcome})
