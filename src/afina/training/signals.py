"""Stop signals become a wish that the loop reads between passes: the pass is finished, a checkpoint saved, then it
stops.

An evaluation, which leaves nothing behind that could be half done, is cut short instead. The second signal stops at
once. Signals can only be caught in the main thread; elsewhere nothing changes.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class CutShort(BaseException):
    """Raised by the first signal in what needn't be finished. No library takes it for an error."""


class StopAtOnce(KeyboardInterrupt):
    """Raised by the second signal.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


class StopSignals:
    """A context in which the first SIGINT or SIGTERM only sets `received`."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._cuts = False
        self._previous: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """128 and the signal's number: 130 for ^C, 143 for a termination."""
        return 128 + (self.received or signal.SIGINT)

    @contextmanager
    def cutting(self) -> Iterator[None]:
        """A context that the first signal leaves at once, by `CutShort`."""
        if self.received is not None:
            raise CutShort
        self._cuts = True
        try:
            yield
        finally:
            self._cuts = False

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is signal.SIG_IGN:  # nohup, or a job that a script runs in the background
                    continue
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise StopAtOnce(number)
        self.received = number
        # Not print: a handler may come in the middle of one.
        os.write(2, b"\nstopping once this batch is done and the run is saved; the same again stops at once\n")
        if self._cuts:
            raise CutShort
