"""status.json: where a run stands now, for other programs; docs/reference/status.md describes each key.

It is written whole, at each change of state and else every two seconds at most. Times of day are told for people and
other machines; what is waited for is measured by the clock that never jumps.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from afina.errors import RunFolderError
from afina.runs.folder import RunFolder
from afina.runs.names import STATUS
from afina.training.memory import measure_peak_memory_bytes, measure_resident_bytes

SECONDS_BETWEEN = 2.0
# A run on another machine is taken for dead after so long without a word.
SILENT_SECONDS = 15 * 60
# What the clocks of a file and of a process may differ by.
CLOCK_SECONDS = 60
LARGEST = 1e15
ENDS = ("finished", "interrupted", "failed")


@dataclass(frozen=True)
class Spent:
    """What the processes that ran a run before this one have spent on it."""

    seconds: float = 0.0
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    device: str = "cpu"
    """Whose memory that is."""

    def join_peak(self, peak_memory_bytes: int, device: str) -> int:
        """The larger one of the peaks until now and of this process; those of another device don't count."""
        return max(peak_memory_bytes, self.peak_memory_bytes if device == self.device else 0)


class StatusFile:
    """The status of one run, kept up to date by the process that runs it.

    Args:
        describe_time: gives `seconds` and `stage_seconds`, of all processes of the run.
        spent: by the earlier ones.
    """

    def __init__(
        self, folder: RunFolder, describe_time: Callable[[], Mapping[str, Any]] = dict, spent: Spent | None = None
    ) -> None:
        self.folder = folder
        self.describe_time = describe_time
        self.spent = spent or Spent()
        self.device = "cpu"
        self.values: dict[str, Any] = {}
        self.written_at = -SECONDS_BETWEEN

    def tell(self, state: str, **values: Any) -> None:
        """Take over what has changed, and write it if that is due. A disk that is full stops no run for this."""
        is_due = state != self.values.get("state") or time.monotonic() - self.written_at >= SECONDS_BETWEEN
        self.values |= {"state": state, **values}
        if is_due and self.folder.path.is_dir():
            self.written_at = time.monotonic()
            with contextlib.suppress(OSError):
                self.folder.write_json(STATUS, self.describe(), is_synced=False)

    def describe(self) -> dict[str, Any]:
        """All that the file holds."""
        found = {**self.values, **self.describe_time(), **describe_process(self.device)}
        return found | {"peak_memory_bytes": self.spent.join_peak(found["peak_memory_bytes"], self.device)}


def describe_process(device: str) -> dict[str, Any]:
    """Which process says so, when, and how much memory it has: now and at the most."""
    return {
        "device": device,
        "memory_bytes": measure_memory_bytes(device),
        "peak_memory_bytes": measure_peak_memory_bytes(device),
        "pid": os.getpid(),
        "host": platform.node(),
        "updated_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


def measure_memory_bytes(device: str) -> int:
    """What the process holds now: of the GPU, or of the system."""
    if device == "cuda":
        import torch

        return int(torch.cuda.memory_allocated())
    return measure_resident_bytes()


def read_spent(folder: RunFolder) -> Spent:
    """What a run has cost until its last word, and nothing where that says no such thing."""
    try:
        status = folder.read_json(STATUS)
        spent = Spent(
            float(status["seconds"]),
            {str(name): float(seconds) for name, seconds in status["stage_seconds"].items()},
            int(status["peak_memory_bytes"]),
            str(status["device"]),
        )
    except (RunFolderError, AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return Spent()
    numbers = (spent.seconds, spent.peak_memory_bytes, *spent.stage_seconds.values())
    return spent if all(0 <= number < LARGEST for number in numbers) else Spent()


def read_state(folder: RunFolder) -> dict[str, Any]:
    """`state` of a run that has no report yet, and how far it is where that is known.

    `running`, `dead` (killed, or its machine went down), `interrupted`, `failed`, or `unfinished` without a status.
    """
    try:
        status = folder.read_json(STATUS)
        state = status["state"]
        if state not in ENDS:
            state = "running" if is_alive(status) else "dead"
        return {"state": state} | {name: status[name] for name in ("step", "total_steps") if name in status}
    except (RunFolderError, OverflowError, ValueError):  # no status, or one that no run has written
        return {"state": "unfinished"}


def is_alive(status: Mapping[str, Any]) -> bool:
    """Whether the process of a status is still at work, as far as this machine can see."""
    updated_at = datetime.fromisoformat(status["updated_at"]).timestamp()
    if status["host"] != platform.node():
        return abs(time.time() - updated_at) < SILENT_SECONDS
    import psutil

    try:
        process = psutil.Process(status["pid"])
        # Numbers of processes are used again: a later one never wrote this.
        is_older = process.create_time() <= updated_at + CLOCK_SECONDS
        return bool(is_older and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
