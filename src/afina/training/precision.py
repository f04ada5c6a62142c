"""Where the model is computed, and in which number format: each a value with its reason."""

from __future__ import annotations

import os
import time
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from afina.config.reason import Reason
from afina.data.cache import keep_values, locate_cache, recall_values
from afina.errors import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator


# Rows, inputs and outputs of the products that are timed, how often, and how much faster bf16 must be to be worth its
# rounding.
TIMED_SHAPE, TIMES, WORTH = (512, 512, 1024), 5, 1.2


def choose_device(wanted: str) -> Reason:
    """The device to compute on: the one asked for, else a GPU if there is one.

    Raises:
        ConfigError: if a device is asked for that this machine doesn't have.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted != "auto":
        if not available[wanted]:
            found = ", ".join(name for name, there in available.items() if there)
            raise ConfigError(f"this machine has no {wanted} device", found=found, remedy="--set training.device=auto")
        return Reason("training.device", wanted, "as given")
    for name in ("cuda", "mps"):
        if available[name]:
            return Reason("training.device", name, f"a {name} device is there")
    return Reason("training.device", "cpu", "no GPU is there")


def choose_precision(wanted: str, device: str) -> Reason:
    """`bf16` or `fp32`: the first where the hardware multiplies bf16 matrices faster than fp32 ones."""
    if wanted != "auto":
        return Reason("training.precision", wanted, "as given")
    if device == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Reason("training.precision", "bf16", "the GPU computes in bf16; weights stay fp32")
        return Reason("training.precision", "fp32", "the GPU has no bf16 units")
    if device == "mps":
        return Reason("training.precision", "fp32", "bf16 brings nothing on this device")
    units = find_cpu_bf16_units()
    if not units:
        reason = "the CPU has neither AMX nor AVX512-BF16, so bf16 would be emulated"
        return Reason("training.precision", "fp32", reason)
    if not is_bf16_faster():
        return Reason(
            "training.precision", "fp32", f"the CPU has {units}, but multiplies no faster in bf16 than in fp32"
        )
    return Reason("training.precision", "bf16", f"the CPU has {units}; weights that are trained stay fp32")


def find_cpu_bf16_units() -> str:
    """The CPU's units for bf16 products, or an empty string. Without them bf16 is about ten times slower than fp32."""
    units, found = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}, list_cpu_units()
    return " and ".join(name for key, name in units.items() if key in found)


def list_cpu_units() -> list[str]:
    """Names of everything the CPU can do, as torch tells them; none from a torch that can't."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return sorted(name for name, value in capabilities.items() if value is True)


@lru_cache(maxsize=1)
def is_bf16_faster() -> bool:
    """Whether this CPU multiplies bf16 matrices clearly faster than fp32 ones.

    AMX does so ten times as fast. AVX512-BF16 alone is four times as fast as fp32 on one processor and takes 1.7 times
    as long on another, so it is timed, once for a machine: a second look, while other programs run, might say
    otherwise, and the same command would give other numbers.
    """
    if "AMX" in find_cpu_bf16_units():
        return True
    machine = " ".join([torch.__version__, str(os.cpu_count()), *list_cpu_units()])
    path = locate_cache() / "bf16.json"
    known = recall_values(path)
    if machine not in known:
        known[machine] = time_products()
        keep_values(path, known)
    return known[machine] is True


def time_products() -> bool:
    """Whether bf16 is faster by the best of a few products of each format in turn, which takes about 40 ms."""
    rows, inputs, outputs = TIMED_SHAPE
    pairs = {
        dtype: (
            torch.ones(rows, inputs, dtype=dtype, device="cpu"),
            torch.ones(inputs, outputs, dtype=dtype, device="cpu"),
        )
        for dtype in (torch.bfloat16, torch.float32)
    }
    seconds: dict[torch.dtype, list[float]] = {dtype: [] for dtype in pairs}
    for _ in range(1 + TIMES):  # the first ones only prepare the library that multiplies
        for dtype, (left, right) in pairs.items():
            begin = time.perf_counter()
            left @ right
            seconds[dtype].append(time.perf_counter() - begin)
    return min(seconds[torch.bfloat16][1:]) * WORTH < min(seconds[torch.float32][1:])


def precision_of(accelerator: Accelerator) -> str:
    """`bf16` or `fp32`."""
    return "bf16" if accelerator.mixed_precision == "bf16" else "fp32"
