"""How much memory this process has taken, and how much it could still take."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
CLEAR_PEAK = "5"
# Limit, use and details of the container's memory: of cgroups 2 and 1. What lies in the system's cache of files and
# wasn't read lately counts as used and is given back at once.
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)
OWN_CGROUPS = Path("/proc/self/cgroup")
CGROUPS_OF = {
    "": ("/sys/fs/cgroup", ("memory.max", "memory.current", "memory.stat")),
    "memory": (
        "/sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    ),
}  # fmt: skip
"""By the controller that a line of OWN_CGROUPS names (none: cgroup 2): where groups lie, and their files."""
CACHED = ("inactive_file", "total_inactive_file")


def measure_peak_memory_bytes(device: str = "cpu") -> int:
    """The largest amount since the last reset: resident memory of the process, or the allocator's peak on a GPU."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return measure_resident_peak_bytes()


def reset_peak_memory(device: str = "cpu") -> None:
    """Measure from here on, so that a run doesn't show the peak of the one before it in the same process.

    On a CPU only Linux can: https://docs.kernel.org/filesystems/proc.html, clear_refs.
    """
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):
        CLEAR.write_text(CLEAR_PEAK, encoding="ascii")


def measure_resident_peak_bytes() -> int:
    """The process's largest resident memory.

    Linux tells it in /proc, where it can be reset and doesn't begin with the memory of whoever started the process, as
    getrusage's does. That one counts in KiB, and in bytes on macOS.
    """
    found = read_status("VmHWM")
    if found:
        return found
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)  # type: ignore[attr-defined]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure_resident_bytes() -> int:
    """The process's resident memory."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def read_status(name: str) -> int:
    """Bytes of an entry of Linux's status of this process; 0 where there is none."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) * 1024
    return 0


def find_free_bytes(device: str) -> int:
    """Memory that can still be taken: of the GPU, or the smaller one of the system's and the container's."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit, used, details in (*CGROUPS, *list_nested_cgroups()):
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()) + read_cached_bytes(details))
        except (OSError, ValueError):  # no container, or no limit ("max")
            continue
    return max(0, free)


def list_nested_cgroups() -> Iterator[tuple[str, str, str]]:
    """The same files of the control groups that this process is in and that a container doesn't mount at the root, with
    those above them: systemd and Slurm nest them. https://docs.kernel.org/admin-guide/cgroup-v2.html"""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = OWN_CGROUPS.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = CGROUPS_OF["memory" if controllers else ""]
        inside = Path(root + path)
        for folder in (inside, *inside.parents):
            if str(folder) != root and folder.is_relative_to(root):
                limit, used, details = (str(folder / name) for name in names)
                yield limit, used, details


def read_cached_bytes(details: str) -> int:
    """What a container's memory holds of files and can drop; of its children too where both are told."""
    found = 0
    with contextlib.suppress(OSError, ValueError):
        for line in Path(details).read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(" ")
            found = max(found, int(value)) if name in CACHED else found
    return found
