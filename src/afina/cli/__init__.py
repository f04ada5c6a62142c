"""The command line: one file a verb, each of which parses, calls what `afina` exports and prints.

Nothing heavier than typer is imported before a verb runs, so that help comes at once. Stop signals are minded from the
first moment: a ^C while modules are still being imported ends as quietly as any other.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

__all__ = ["main"]

AGAIN_SECONDS = 0.25
WRITING_VERBS = ("predict", "merge")
received: list[int] = []
"""The stop signals so far."""


class Stopped(BaseException):
    """A stop signal outside the training loop, which has its own way to stop. No library takes it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def raise_stopped(number: int, frame: FrameType | None) -> None:
    """The handler of SIGINT and SIGTERM.

    Libraries that are being imported may swallow whatever is raised, so it is raised again until somebody handles it.
    Where it meets a destructor, Python would print it and go on; that is kept quiet.
    """
    sys.unraisablehook = lambda ignored: None
    received.append(number)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, lambda alarm, frame: raise_stopped(number, frame))
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        if is_half_imported("torch"):
            return  # its C++ calls back into Python while it starts, and an exception there aborts the process
    if not isinstance(sys.exc_info()[1], Stopped | SystemExit):  # the end has begun
        raise Stopped(number)


def is_half_imported(name: str) -> bool:
    """Whether a module's import has begun and isn't done."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def forget_stop() -> None:
    """Raise it no more, and mind no other: what is left is the interpreter's own end.

    It puts the usual handlers back while it ends, and an alarm would then kill it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)


def describe_stop(arguments: Sequence[str]) -> str:
    """What is said of a stop outside the training loop, which says itself how to go on."""
    verb = next((word for word in arguments if not word.startswith("-")), "")
    if verb == "train":
        return "interrupted; afina runs tells whether there is a run"
    return "interrupted; nothing was written" if verb in WRITING_VERBS else "interrupted"


def fill_streams() -> None:
    """Put the null device where a standard stream was closed (`>&-`, some supervisors): a print has somewhere to go,
    and no file that is opened gets the stream's number, to be written over by a library that prints."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  (open as long as the process)


def main() -> None:
    """Run the command line and exit with its code: 0 done, 2 wrong input, 130/143 interrupted, 1 anything else."""
    fill_streams()
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, raise_stopped)
        from afina.cli.app import run

        run()
    except Stopped as stop:
        print(f"afina: {describe_stop(sys.argv[1:])}", file=sys.stderr)
        sys.exit(stop.exit_code)
    finally:
        forget_stop()
