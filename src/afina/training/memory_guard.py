"""Whether memory is about to run out.

A GPU says by an error that it did; see `models/shortage.py`. Linux gives a process more than there is and kills it when
it takes it, so that on a CPU the memory that is left is read between passes.
"""

from __future__ import annotations

import time

from afina.kernels.allocator import trim_freed_memory
from afina.models.shortage import NEARLY_FULL, MemoryNearlyFull
from afina.training.memory import find_free_bytes, measure_resident_bytes

# A reading takes half a millisecond, which short passes would feel, and memory doesn't fill in less than this.
SECONDS_BETWEEN = 0.1


class MemoryGuard:
    """Reads how full memory is.

    Args:
        device: of the training; only a CPU's memory needs watching.
        wanted: whether the settings ask for it.
    """

    def __init__(self, device: str, wanted: bool) -> None:
        self.is_watching = wanted and device == "cpu"
        self.read_at = -SECONDS_BETWEEN
        self.was_trimmed = False
        """Whether freed memory had to be given back at the last reading already."""

    def check(self) -> None:
        """Give freed memory back where memory is nearly full.

        Raises:
            MemoryNearlyFull: if that doesn't help, or had to be done at the last reading too.
        """
        if not self.is_watching or time.monotonic() - self.read_at < SECONDS_BETWEEN:
            return
        self.read_at = time.monotonic()
        if measure_fullness() < NEARLY_FULL:
            self.was_trimmed = False
            return
        trim_freed_memory()
        is_full = measure_fullness() >= NEARLY_FULL
        if is_full or self.was_trimmed:
            self.was_trimmed = False
            raise MemoryNearlyFull
        self.was_trimmed = True


def measure_fullness() -> float:
    """What this process holds, as a share of that and what it could still take."""
    resident = measure_resident_bytes()
    return resident / (resident + find_free_bytes("cpu"))
