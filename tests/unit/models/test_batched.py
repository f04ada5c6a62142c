"""Batches are computed in as many pieces as memory needs, and other errors come out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from afina.data.batches import Indices
from afina.errors import ResourceError
from afina.models.batched import compute_batches, compute_in_pieces
from afina.models.shortage import MemoryNearlyFull, describe_shortage


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "the GPU is out of memory"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), "memory ran out"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), "memory ran out"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "memory ran out"),
        (RuntimeError("could not create a primitive"), "memory ran out"),
        (RuntimeError("could not create a primitive descriptor for a matmul primitive"), None),
        (MemoryError(), "memory ran out"),
        (MemoryNearlyFull(), "memory is more than 92% full"),
        (RuntimeError("expected scalar type Float"), None),
        (ValueError("memory"), None),
    ],
)
def test_shortages_are_told_from_other_errors(error: BaseException, said: str | None) -> None:
    assert describe_shortage(error) == said


def compute_up_to(most: int) -> Any:
    """A computation that has memory for so many rows."""

    def compute(rows: Indices) -> list[int]:
        if len(rows) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return [int(row) ** 2 for row in rows]

    return compute


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_a_batch_is_computed_in_pieces_where_memory_needs_it(most: int) -> None:
    rows = np.array([3, 1, 4, 9, 5, 2, 6])
    pieces = list(compute_in_pieces(compute_up_to(most), rows, "cpu"))
    assert np.concatenate([part for part, _ in pieces]).tolist() == rows.tolist()
    assert [each for _, found in pieces for each in found] == (rows**2).tolist()
    assert len(pieces) > 1 or most == 7


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("most", [1, 2, 7])
def test_batches_side_by_side_come_in_order_and_in_pieces(threads: int, most: int) -> None:
    batches = [np.array([3, 1, 4]), np.array([9, 5]), np.array([2]), np.array([6, 0])]
    modes, compute_some = [], compute_up_to(most)

    def compute(rows: Indices) -> list[int]:
        modes.append((torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")))
        return compute_some(rows)  # type: ignore[no-any-return]

    torch.set_num_threads(threads)
    found = list(compute_batches(compute, batches, nn.Linear(1, 1), device="cpu", precision="bf16"))
    rows = np.concatenate(batches)
    assert np.concatenate([part for part, _ in found]).tolist() == rows.tolist()
    assert [each for _, squares in found for each in squares] == (rows**2).tolist()
    assert set(modes) == {(True, True)}
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_that_is_none_of_memory_comes_out(threads: int) -> None:
    def compute(rows: Indices) -> None:
        raise ValueError("something else")

    torch.set_num_threads(threads)
    with pytest.raises(ValueError, match="something else"):
        list(compute_batches(compute, [np.arange(2)] * 4, nn.Linear(1, 1), device="cpu", precision="fp32"))


def test_a_row_that_does_not_fit_is_said() -> None:
    with pytest.raises(ResourceError) as caught:
        list(compute_in_pieces(compute_up_to(0), np.arange(4), "cpu"))
    assert str(caught.value) == (
        "a single row is too much for the memory\n  found: memory ran out\n  do: shorter rows, or a smaller model"
    )


def test_a_real_allocation_that_fails_is_a_shortage() -> None:
    # In a thread of its own: afterwards glibc gives a thread another arena, in which it keeps nothing that is freed.
    with ThreadPoolExecutor(1) as thread, pytest.raises(RuntimeError) as caught:
        thread.submit(torch.empty, 2**58).result()
    assert describe_shortage(caught.value) == "memory ran out"
