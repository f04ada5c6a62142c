"""What a model says of rows, batch by batch and without gradients: side by side where that pays, and in as many pieces
as memory needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from afina.data.batches import Indices
from afina.errors import ResourceError
from afina.kernels.allocator import keep_freed_memory
from afina.kernels.lanes import count_lanes, open_lanes
from afina.models.rounded_weights import round_weights
from afina.models.shortage import describe_shortage, release_memory

Found = TypeVar("Found")


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


def autocast(device: str, precision: str) -> Any:
    """The context in which a model computes in this number format, whatever the caller's own autocast is."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")
