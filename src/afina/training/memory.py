"""How much memory this process has taken."""

from __future__ import annotations

import contextlib
import sys


def measure_peak_memory_bytes(device: str = "cpu") -> int:
    """The largest amount so far: resident memory of the process, or the allocator's peak on a GPU."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return measure_resident_peak_bytes()


def forget_peak_memory(device: str = "cpu") -> None:
    """Measure from here on, so that a run doesn't show the peak of the one before it in the same process.

    On a CPU only Linux can: https://docs.kernel.org/filesystems/proc.html, clear_refs.
    """
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def measure_resident_peak_bytes() -> int:
    """The process's largest resident memory so far (Linux counts in KiB, macOS in bytes)."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)  # type: ignore[attr-defined]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
