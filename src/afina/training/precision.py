"""Where the model is computed, and in which number format: each a value with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from afina.config.reason import Reason
from afina.errors import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator


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
    if units:
        return Reason("training.precision", "bf16", f"the CPU has {units}; weights that are trained stay fp32")
    return Reason("training.precision", "fp32", "the CPU has neither AMX nor AVX512-BF16, so bf16 would be emulated")


def find_cpu_bf16_units() -> str:
    """The CPU's units for bf16 products, or an empty string. Without them bf16 is about ten times slower than fp32."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    units = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
    return " and ".join(name for key, name in units.items() if capabilities.get(key))


def precision_of(accelerator: Accelerator) -> str:
    """`bf16` or `fp32`."""
    return "bf16" if accelerator.mixed_precision == "bf16" else "fp32"
