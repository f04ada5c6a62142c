"""What a run says while it goes on. All of it goes to stderr: stdout belongs to results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from afina.config.reason import Reason
from afina.pipeline.progress import Advance, show_bar, show_lines
from afina.runs.folder import RunFolder
from afina.runs.status import Spent, StatusFile, read_spent
from afina.terminal import make_printable
from afina.wording import suit_reader

if TYPE_CHECKING:
    from afina.runs.reasons import ReasonsFile
    from afina.training.events import Callback

# What the status of a run says of a stage; all others prepare what is to come.
STATES = {"train": "training", "evaluate": "evaluating", "baselines": "evaluating", "save": "saving", "prove": "saving"}
# The stage of the training loop, whose listener shows a bar: rich takes one live display at a time before version 14.1.
WITH_BAR = "train"


class Narrator:
    """Says nothing; keeps the reasons and the seconds of each stage, which end up in the report."""

    def __init__(self) -> None:
        self.reasons: list[Reason] = []
        self.earlier: tuple[Reason, ...] = ()
        """Told by the process that began the run, where this one resumes it."""
        self.kept: ReasonsFile | None = None
        self.notes: list[str] = []
        self.stage_seconds: dict[str, float] = {}
        self.running: dict[str, float] = {}
        """When each stage began that goes on now."""
        self.spent = Spent()
        """By earlier processes of a run that is resumed; `stage_seconds` begin with theirs."""
        self.status: StatusFile | None = None
        """Where other programs read how far the run is."""
        self.began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Spent on the run, imports included, and all processes that it took."""
        return self.spent.seconds + time.perf_counter() - self.began

    def keep_time(self, folder: RunFolder) -> None:
        """Go on counting where the last process of the run stopped, and tell other programs of it."""
        self.spent = read_spent(folder)
        self.stage_seconds = dict(self.spent.stage_seconds)
        self.status = StatusFile(folder, self.describe_time, self.spent)

    def describe_time(self) -> dict[str, Any]:
        """`seconds` and `stage_seconds`, those of stages that go on included."""
        now, stages = time.perf_counter(), dict(self.stage_seconds)
        for name, began in self.running.items():
            stages[name] = stages.get(name, 0.0) + now - began
        return {"seconds": self.seconds, "stage_seconds": stages}

    def say(self, text: str) -> None:
        """A line for the person who waits."""

    def note(self, text: str) -> None:
        """Something that the report must hold too: dropped, cut, repaired or odd."""
        self.notes.append(text)
        self.say(text)

    def explain(self, reason: Reason) -> None:
        """A choice and its reason; where a run that is resumed had chosen the same, its reason then."""
        earlier = next((each for each in self.earlier if each.is_same_choice(reason)), None)
        if earlier is None:
            self.reasons.append(reason)
            if self.kept:
                self.kept.add(reason)
        self.say(str(earlier or reason))

    def keep_reasons(self, kept: ReasonsFile) -> None:
        """Go on with the reasons that are kept there, and keep those that follow."""
        self.kept, self.earlier = kept, tuple(kept.read())
        self.reasons += self.earlier

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Times a stage; gives a function (done, total) for those that can tell how far they are."""
        began = self.running[name] = time.perf_counter()
        if self.status:
            self.status.tell(STATES.get(name, "preparing"))
        try:
            yield self.advance
        finally:
            self.running.pop(name, None)
            self.stage_seconds[name] = self.stage_seconds.get(name, 0.0) + time.perf_counter() - began

    def advance(self, done: int, total: int) -> None:
        """How far the present stage is."""

    @contextmanager
    def count_rows(self, name: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Shows how many of `total` rows are done; gives a function that is told so."""
        yield lambda now_done: None

    def callbacks(self) -> Sequence[Callback]:
        """Listeners for the training loop."""
        return ()


class ConsoleNarrator(Narrator):
    """Prints lines, and a live bar where there is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        super().__init__()
        # In a notebook rich would make an output of its own of each line.
        self.console = Console(stderr=True, force_jupyter=False)

    def say(self, text: str) -> None:
        self.console.print(make_printable(suit_reader(text)), highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[int, int], None]]:
        with super().stage(name) as advance:
            if name == WITH_BAR or not self.console.is_terminal:
                yield advance
                return
            with self.console.status(name) as status:
                yield lambda done, total: status.update(f"{name} {done:,}/{total:,}")

    @contextmanager
    def count_rows(self, name: str, total: int, done: int = 0) -> Iterator[Advance]:
        show = show_bar if self.console.is_terminal else show_lines
        with show(self.console, name, total, done) as advance:
            yield advance

    def callbacks(self) -> Sequence[Callback]:
        from afina.training.callbacks.progress import ProgressBar, ProgressLines

        return (ProgressBar(self.console) if self.console.is_terminal else ProgressLines(self.console),)


def make_narrator(verbose: bool) -> Narrator:
    """One that prints, or one that doesn't."""
    return ConsoleNarrator() if verbose else Narrator()
