"""The command line: one file a verb, each of which parses, calls `afina.api` and prints.

Nothing heavier than typer is imported before a verb runs, so that help comes at once. Stop signals are minded from the
first moment: a ^C while modules are still being imported ends as quietly as any other.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

__all__ = ["main"]


class Stopped(BaseException):
    """A stop signal outside the training loop, which has its own way to stop. No library takes it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def raise_stopped(number: int, frame: FrameType | None) -> None:
    """The handler of SIGINT and SIGTERM."""
    raise Stopped(number)


def main() -> None:
    """Run the command line and exit with its code: 0 done, 2 wrong input, 130/143 interrupted, 1 anything else."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, raise_stopped)
        from afina.cli.app import run

        run()
    except Stopped as stop:
        print("afina: interrupted; nothing was written", file=sys.stderr)
        sys.exit(stop.exit_code)
