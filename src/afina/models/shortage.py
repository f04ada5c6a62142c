"""What errors say where memory ran out, and how to get back what nobody holds."""

from __future__ import annotations

import gc

import torch

from afina.kernels.allocator import trim_freed_memory

# Of what the process has and could still take: beyond it, a batch of longer rows may be the last one.
NEARLY_FULL = 0.92
# How the allocators of torch say it, where the error has no type of its own.
SHORTAGES = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
# The whole of what oneDNN says; where it can't do something at all, it says more.
ONEDNN_SHORTAGE = "could not create a primitive"


class MemoryNearlyFull(MemoryError):
    """There is so little memory left that the next pass may be killed."""


def describe_shortage(error: BaseException) -> str | None:
    """What an error says about memory; None if it is about something else."""
    if isinstance(error, MemoryNearlyFull):
        return f"memory is more than {NEARLY_FULL:.0%} full"
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU is out of memory"
    said = str(error)
    if isinstance(error, MemoryError) or said == ONEDNN_SHORTAGE or any(text in said for text in SHORTAGES):
        return "memory ran out"
    return None


def release_memory(device: str) -> None:
    """Give everything back that nobody holds."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()
    else:
        trim_freed_memory()
