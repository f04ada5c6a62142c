"""How far something with known parts is: a live bar in a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES = 10.0
Advance = Callable[[int], None]


@contextmanager
def show_bar(console: Console, name: str, total: int, done: int) -> Iterator[Advance]:
    """A bar with rows, rows a second and time left, which goes away at the end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    began = time.monotonic()
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]} rows/s"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=total, completed=done, rate="-")

        def advance(now_done: int) -> None:
            rate = (now_done - done) / max(1e-9, time.monotonic() - began)
            bar.update(task, completed=now_done, rate=f"{rate:.2g}")

        yield advance


@contextmanager
def show_lines(console: Console, name: str, total: int, done: int) -> Iterator[Advance]:
    """A line every few seconds."""
    began = last = time.monotonic()

    def advance(now_done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        rate = (now_done - done) / (now - began)
        left = f"about {(total - now_done) / rate:.0f} s left" if rate else "time left unknown"
        console.print(f"{name} {now_done:,}/{total:,}  {rate:.2g} rows/s  {left}", highlight=False)

    yield advance
