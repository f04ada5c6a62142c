"""Where the figures were taken: the machine, how fast it multiplies matrices, and the versions of the libraries."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from importlib import metadata
from statistics import median
from typing import Any

PEAK_SIZE = 4096
PEAK_REPEATS = 5


def describe_machine(device: str) -> dict[str, Any]:
    """Processor, cores, bf16 units, memory, threads and load; no names of people or hosts."""
    import torch

    from afina.pipeline.environment import describe_environment
    from afina.training.precision import find_cpu_bf16_units

    known = describe_environment(device)
    return {
        **{
            key: known[key]
            for key in ("cpu", "cores", "memory_bytes", "device", "gpu", "system", "python")
            if key in known
        },
        "cpu_bf16_units": find_cpu_bf16_units(),
        "torch_threads": torch.get_num_threads(),
        "load_before": os.getloadavg()[0],
    }


def measure_matrix_peak(device: str, dtype: str) -> float:
    """FLOP/s of a square matrix product in this format (`bfloat16`, `float32`): the ceiling of any training."""
    import torch

    a, b = (torch.randn(PEAK_SIZE, PEAK_SIZE, device=device).to(getattr(torch, dtype)) for _ in range(2))
    seconds = []
    for _ in range(PEAK_REPEATS + 1):
        began = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * PEAK_SIZE**3 / median(seconds[1:])


def list_versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of those that are installed."""
    return {name: metadata.version(name) for name in packages if is_installed(name)}


def is_installed(name: str) -> bool:
    """Whether the package has metadata here; afina run from its sources has none."""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
