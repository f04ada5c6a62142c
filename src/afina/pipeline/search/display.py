"""What a person sees while a search runs: a live table in a terminal, plain lines elsewhere. All on stderr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from afina.advice.search.budget import describe_seconds
from afina.advice.search.entry import Entry
from afina.pipeline.narrator import ConsoleNarrator, Narrator
from afina.pipeline.search.summary import describe_settings, make_header, make_rows

if TYPE_CHECKING:
    from rich.table import Table

MOST_SHOWN = 15


class Display:
    """Shows nothing."""

    def __init__(self, narrator: Narrator) -> None:
        self.narrator = narrator

    def running(self) -> AbstractContextManager[Any]:
        """While trials run."""
        return nullcontext()

    def begin_trial(self, number: int, technique: str, settings: Mapping[str, Any]) -> None:
        """A trial starts."""

    def advance(self, step: int, total_steps: int, left_seconds: float) -> None:
        """How far the present trial is."""

    def end_trial(self, entry: Entry, entries: Sequence[Entry], metric: str, left_seconds: float) -> None:
        """A trial has ended."""

    def say(self, text: str) -> None:
        """A line for the person who waits."""
        self.narrator.say(text)


class LineDisplay(Display):
    """A line for each trial."""

    def begin_trial(self, number: int, technique: str, settings: Mapping[str, Any]) -> None:
        self.say(f"trial {number}: {technique}, {describe_settings(settings)}")

    def end_trial(self, entry: Entry, entries: Sequence[Entry], metric: str, left_seconds: float) -> None:
        self.say(f"trial {entry['trial']}: {describe_end(entry, metric)}; {describe_seconds(left_seconds)} left")


class LiveDisplay(Display):
    """A table of the best trials, the one that is running, and the time that is left."""

    def __init__(self, narrator: ConsoleNarrator) -> None:
        super().__init__(narrator)
        self.console = narrator.console
        self.entries: Sequence[Entry] = ()
        self.metric = ""
        self.present = ""

    def running(self) -> AbstractContextManager[Any]:
        from rich.live import Live

        self.live = Live(console=self.console, get_renderable=self.draw, refresh_per_second=4, transient=True)
        return self.live

    def begin_trial(self, number: int, technique: str, settings: Mapping[str, Any]) -> None:
        self.name = self.present = f"trial {number}: {technique}, {describe_settings(settings)}"

    def advance(self, step: int, total_steps: int, left_seconds: float) -> None:
        self.present = f"{self.name}, step {step}/{total_steps}; {describe_seconds(left_seconds)} left"

    def end_trial(self, entry: Entry, entries: Sequence[Entry], metric: str, left_seconds: float) -> None:
        self.entries, self.metric = entries, metric
        self.present = f"{describe_seconds(left_seconds)} left"

    def draw(self) -> Table:
        """The table as it stands."""
        from rich.table import Table

        table = Table(caption=self.present, caption_justify="left")
        for name in make_header(self.metric):
            table.add_column(name, overflow="fold")
        for row in make_rows(self.entries, self.metric, {})[:MOST_SHOWN]:
            table.add_row(*row)
        return table


def describe_end(entry: Entry, metric: str) -> str:
    """How a trial ended, in words."""
    if entry["score"] is None:
        return f"{entry['state']} after {describe_seconds(entry['seconds'])}: {entry['why']}"
    why = f", {entry['why']}" if entry["why"] else ""
    return f"validation {metric} {entry['score']:.4f} in {describe_seconds(entry['seconds'])}{why}"


def make_display(narrator: Narrator) -> Display:
    """The one that fits where stderr goes."""
    if isinstance(narrator, ConsoleNarrator):
        return LiveDisplay(narrator) if narrator.console.is_terminal else LineDisplay(narrator)
    return Display(narrator)
