"""Whether memory ran out, or is about to.

A GPU says so by an error. Linux gives a process more than there is and kills it when it takes it, so that on a CPU the
memory that is left is read between passes.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from afina.data.batches import Indices
from afina.errors import ResourceError
from afina.kernels.allocator import keep_freed_memory, trim_freed_memory
from afina.kernels.lanes import count_lanes, open_lanes
from afina.models.features import autocast
from afina.models.rounded_weights import round_weights
from afina.training.memory import find_free_bytes, measure_resident_bytes

# Of what the process has and could still take: beyond it, a batch of longer rows may be the last one.
NEARLY_FULL = 0.92
# A reading takes half a millisecond, which short passes would feel, and memory doesn't fill in less than this.
SECONDS_BETWEEN = 0.1
# How the allocators of torch say it, where the error has no type of its own.
SHORTAGES = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
# The whole of what oneDNN says; where it can't do something at all, it says more.
ONEDNN_SHORTAGE = "could not create a primitive"

Found = TypeVar("Found")


class MemoryNearlyFull(MemoryError):
    """There is so little memory left that the next pass may be killed."""


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


def compute_batches(
    compute: Callable[[Indices], Found], batches: Sequence[Indices], model: nn.Module, *, device: str, precision: str
) -> Iterator[tuple[Indices, Found]]:
    """What `compute` gives for the rows of each batch, without gradients, in the order of the batches: side by side
    where that pays, and a batch in as many pieces as memory needs, each with its rows.

    Raises:
        ResourceError: if memory is too small for a single row.
    """

    def compute_quietly(rows: Indices) -> Found:
        with torch.inference_mode(), autocast(device, precision):
            return compute(rows)

    def attempt(rows: Indices) -> tuple[Indices, Found | None]:
        try:
            return rows, compute_quietly(rows)
        except (RuntimeError, MemoryError) as error:
            if describe_shortage(error) is None:
                raise
            return rows, None

    rounding = round_weights(model, device=device, precision=precision, passes=len(batches))
    with keep_freed_memory(), rounding, open_lanes(count_lanes(model, device, len(batches))) as lanes:
        for rows, found in lanes.map(attempt, batches):
            if found is not None:
                yield rows, found
                continue
            release_memory(device)
            yield from compute_in_pieces(compute_quietly, rows, device)


def compute_in_pieces(
    compute: Callable[[Indices], Found], rows: Indices, device: str
) -> Iterator[tuple[Indices, Found]]:
    """What `compute` gives for the rows of a batch, in as many pieces as memory needs, each with its rows.

    For what doesn't depend on the batch, as nothing does that takes no gradients.

    Raises:
        ResourceError: if memory is too small for a single row.
    """
    try:
        found = compute(rows)
    except (RuntimeError, MemoryError) as error:
        shortage = describe_shortage(error)
        if shortage is None:
            raise
    else:
        yield rows, found
        return
    if len(rows) == 1:
        raise ResourceError(
            "a single row is too much for the memory", found=shortage, remedy="shorter rows, or a smaller model"
        )
    release_memory(device)
    for half in np.array_split(rows, 2):
        yield from compute_in_pieces(compute, half, device)
