"""What the numbers of a run depend on beside its description: the machine and the versions."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "tokenizers",
    "scikit-learn",
    "numpy",
    "pyarrow",
)


def describe_environment(device: str) -> dict[str, Any]:
    """Machine, processor, memory, device and versions. No user name, no host name, no path."""
    import psutil

    from afina.advice.machine import find_cpu_name
    from afina.kernels.native import load_library

    described: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": find_cpu_name(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "device": device,
        "kernel": "compiled" if load_library() else "none",
    }
    if device == "cuda":
        import torch

        described["gpu"] = torch.cuda.get_device_name()
    for package in PACKAGES:
        try:
            described[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return described
