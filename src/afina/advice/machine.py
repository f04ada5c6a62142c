"""What a machine has: memory that is free, and how fast it multiplies and moves numbers.

The rates are measured in a fraction of a second, once for each machine, and kept beside the other caches. A machine
that is only described has the rates of its data sheet, if it is a known one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from afina.advice.factors import WITH_AMX, WITHOUT_AMX, Factors
from afina.data.cache import locate_cache
from afina.errors import ConfigError
from afina.training.memory import find_free_bytes
from afina.training.precision import find_cpu_bf16_units

UNITS = {"": 1, "K": 10, "M": 20, "G": 30, "T": 40}
SIZE = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([KMGT]?)(i?B)\s*", re.IGNORECASE)
# Side of the matrices that are multiplied and numbers that are copied to find the rates.
SIDE, COPIED = 1024, 2**24
REPEATS = 7
# No product is faster; a clock that stands still (one that is faked for a test) would say 0.
TICK_SECONDS = 1e-9
# After so long rates are measured again, and the faster ones kept.
FRESH_SECONDS = 3600
FORMAT = 2


@dataclass(frozen=True)
class Rates:
    """How fast a machine is in one number format."""

    products: float
    """Floating-point operations a second of large matrix products."""
    bandwidth: float
    """Bytes a second, read and written."""
    has_amx: bool = False
    """Whether the products are AMX's."""

    @property
    def factors(self) -> Factors:
        """How well work uses these rates."""
        return WITH_AMX if self.has_amx else WITHOUT_AMX


@dataclass(frozen=True)
class Machine:
    """Where a run would take place."""

    name: str
    device: str
    """`cpu`, `cuda` or `mps`."""
    memory_bytes: int
    """What a run may take: free memory of this machine, or all of a described one."""
    rates: Rates | None
    """None for a machine that is only described and not known."""
    is_described: bool = False
    """Whether it is another machine than this one."""
    is_alike: bool = False
    """Whether only its memory is another."""
    has_bf16: bool = True
    """Whether a described GPU has units for bf16 products; else a run on it takes fp32."""


@dataclass(frozen=True)
class Gpu:
    """What the data sheet of a GPU says."""

    memory: int
    """GB."""
    products: float
    """Dense TFLOP/s, in bf16 or, without units for that, in fp32."""
    bandwidth: int
    """GB/s."""
    has_bf16: bool = True


KNOWN = {
    "t4": Gpu(16, 8.1, 320, has_bf16=False), "l4": Gpu(24, 121, 300), "a10": Gpu(24, 125, 600),
    "rtx-3090": Gpu(24, 71, 936), "rtx-4090": Gpu(24, 165, 1008), "l40s": Gpu(48, 362, 864),
    "a100-40gb": Gpu(40, 312, 1555), "a100-80gb": Gpu(80, 312, 2039), "h100": Gpu(80, 989, 3350),
    "h200": Gpu(141, 989, 4800),
}  # fmt: skip
# Devices that may be described by their memory alone, and whether a GPU of the kind is taken to compute in bf16.
PLAIN = {"cpu": True, "cuda": True, "mps": False}
# Share of a data sheet's products that large matrices reach.
REACHED = 0.6


def parse_size(given: str | float) -> int:
    """Bytes of a size with its unit: `24GB` and `24GiB` are both 24 * 2**30, as memory is sold.

    Raises:
        ConfigError: for a size without a unit, as any number is, or none above 0.
    """
    text = str(given)
    match = SIZE.fullmatch(text)
    size = int(float(match[1]) * 2 ** UNITS[match[2].upper()]) if match else 0
    if size <= 0:
        is_bare = re.fullmatch(r"\s*[\d.]+\s*", text)
        raise ConfigError(
            f"{given!r} is not a size of memory",
            found="a number without a unit" if is_bare and not match else "",
            expected="a number above 0 with a unit: MB or GB",
            remedy=name_size(f"{text.strip()}GB" if is_bare and not match else "24GB", is_flag=isinstance(given, str)),
        )
    return size


def name_size(size: str, *, is_flag: bool) -> str:
    """A size as it is given on the command line, or in Python, where alone it can be a number."""
    return f"--device-memory {size}" if is_flag else f'device_memory="{size}"'


def describe_machine(device: str, memory: str | None) -> Machine:
    """A machine by flags.

    Args:
        device: cpu, cuda, mps, or the name of a known GPU.
        memory: its size with a unit; None for that of a known GPU.

    Raises:
        ConfigError: for an unknown device, or where the memory isn't known.
    """
    name = device.lower()
    if name not in (*PLAIN, *KNOWN):
        raise ConfigError(
            f"{device!r} is no device that is known", expected=", ".join([*PLAIN, *KNOWN]),
            remedy="--device cuda --device-memory 24GB",
        )  # fmt: skip
    if name in PLAIN:
        if memory is None:
            raise ConfigError(f"how much memory the {name} device has isn't known", remedy="--device-memory 24GB")
        return Machine(name, name, parse_size(memory), None, is_described=True, has_bf16=PLAIN[name])
    gpu = KNOWN[name]
    rates, size = Rates(REACHED * gpu.products * 1e12, gpu.bandwidth * 1e9), parse_size(memory or f"{gpu.memory}GB")
    return Machine(name, "cuda", size, rates, is_described=True, has_bf16=gpu.has_bf16)


def find_machine(device: str, precision: str, *, timed: bool = True) -> Machine:
    """This machine."""
    rates = measure_rates(device, precision) if timed else None
    return Machine(f"this machine ({device})", device, find_free_bytes(device), rates)


def measure_rates(device: str, precision: str) -> Rates:
    """The rates of this machine, from the cache if they were measured lately."""
    import torch

    threads = torch.get_num_threads()
    made_of = [FORMAT, platform.node(), describe_processor(device), threads, torch.__version__, device, precision]
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    path = locate_cache() / "machines" / f"{key}.json"
    known = recall_rates(path)
    if known is not None and time.time() - path.stat().st_mtime < FRESH_SECONDS:
        return known
    rates = benchmark(device, precision)
    if known is not None:  # a machine that was busy then, or is now, seems slower than it is
        fastest = max(known.products, rates.products), max(known.bandwidth, rates.bandwidth)
        rates = Rates(*fastest, rates.has_amx)
    keep_rates(path, rates)
    return rates


def recall_rates(path: Path) -> Rates | None:
    """The rates in a file, if it is there and whole."""
    try:
        found = Rates(**json.loads(path.read_text(encoding="utf-8")))
        is_rate = all(0 < each < math.inf for each in (found.products, found.bandwidth))
    except (OSError, ValueError, TypeError):
        return None
    return found if is_rate else None


def keep_rates(path: Path, rates: Rates) -> None:
    """Write them whole; a cache that can't be written costs the next plan a fraction of a second."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        unfinished.write_text(json.dumps(asdict(rates)), encoding="utf-8")
        os.replace(unfinished, path)


def describe_processor(device: str) -> str:
    """The name of the processor or the GPU."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return find_cpu_name()


def find_cpu_name() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def benchmark(device: str, precision: str) -> Rates:
    """Products of two square matrices, and a copy that no cache holds; each the fastest of a few."""
    import torch

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    side = SIDE if device == "cpu" else 4 * SIDE
    left, right = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    source = torch.ones(COPIED, device=device)
    target = torch.empty_like(source)
    with torch.inference_mode():
        products = time_fastest(lambda: left @ right, device)
        copy = time_fastest(lambda: target.copy_(source), device)
    has_amx = device == "cpu" and precision == "bf16" and "AMX" in find_cpu_bf16_units()
    return Rates(2 * side**3 / products, 2 * source.nbytes / copy, has_amx)


def time_fastest(action: Callable[[], object], device: str) -> float:
    """Seconds of the fastest of a few calls, after one that isn't counted."""
    import torch

    seconds = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        action()
        if device in ("cuda", "mps"):
            getattr(torch, device).synchronize()
        seconds.append(time.perf_counter() - began)
    return max(min(seconds[1:]), TICK_SECONDS)
