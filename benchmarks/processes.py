"""A measurement in a process of its own, as only the outside sees it: its seconds and its largest resident memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def run_process(command: list[str], work: Path, cache: Path | None = None) -> tuple[str, float, int]:
    """Standard output, seconds from start to end, and the largest resident memory in bytes.

    Its cache of features is new and empty unless one is given. This process imports nothing heavy, since Linux counts
    the memory of the one that starts a process into the peak of the one started.
    """
    work.mkdir(exist_ok=True)
    environment = {**os.environ, "AFINA_CACHE": str(cache or work / "cache")}
    with open(work / "stdout", "w+b") as output, open(work / "stderr", "w+b") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        said = (work / "stderr").read_text(encoding="utf-8", errors="replace")
        sys.exit(f"{said[-3000:]}\n{' '.join(command)} ended with exit status {process.returncode}")
    peak_bytes = usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024
    return (work / "stdout").read_text(encoding="utf-8"), seconds, peak_bytes


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]
