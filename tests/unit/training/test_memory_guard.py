"""Memory that is nearly full is noticed, and what was freed is given back first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from afina.data.batches import Indices
from afina.errors import ResourceError
from afina.training import memory_guard
from afina.training.memory_guard import (
    MemoryGuard,
    MemoryNearlyFull,
    compute_batches,
    compute_in_pieces,
    describe_shortage,
    measure_fullness,
)


def read_as(monkeypatch: pytest.MonkeyPatch, *shares: float) -> list[int]:
    """Let memory be so full at each reading, with time between them; gives a list with an entry for each trim."""
    monkeypatch.setattr(memory_guard, "SECONDS_BETWEEN", 0.0)
    readings, trims = iter(shares), []
    monkeypatch.setattr(memory_guard, "measure_fullness", lambda: next(readings))
    monkeypatch.setattr(memory_guard, "trim_freed_memory", lambda: trims.append(1))
    return trims


def test_enough_memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    trims = read_as(monkeypatch, 0.5, 0.919)
    guard = MemoryGuard("cpu", wanted=True)
    guard.check()
    guard.check()
    assert trims == []


def test_freed_memory_is_given_back_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    trims = read_as(monkeypatch, 0.95, 0.6, 0.7, 0.95, 0.6)
    guard = MemoryGuard("cpu", wanted=True)
    for _ in range(3):
        guard.check()
    assert len(trims) == 2


def test_memory_that_stays_full_is_a_shortage(monkeypatch: pytest.MonkeyPatch) -> None:
    read_as(monkeypatch, 0.95, 0.93)
    with pytest.raises(MemoryNearlyFull):
        MemoryGuard("cpu", wanted=True).check()


def test_memory_that_fills_in_every_pass_is_a_shortage(monkeypatch: pytest.MonkeyPatch) -> None:
    read_as(monkeypatch, 0.95, 0.6, 0.95, 0.6)
    guard = MemoryGuard("cpu", wanted=True)
    guard.check()
    with pytest.raises(MemoryNearlyFull):
        guard.check()


@pytest.mark.parametrize(("device", "wanted"), [("cuda", True), ("mps", True), ("cpu", False)])
def test_elsewhere_nothing_is_read(device: str, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    read_as(monkeypatch)
    MemoryGuard(device, wanted).check()


def test_short_passes_are_not_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 50.0
    monkeypatch.setattr(memory_guard.time, "monotonic", lambda: now)
    readings: list[float] = []
    monkeypatch.setattr(memory_guard, "measure_fullness", lambda: readings.append(now) or 0.5)
    guard = MemoryGuard("cpu", wanted=True)
    for now in (50.0, 50.05, 50.09, 50.11, 50.2, 60.0):  # noqa: B007
        guard.check()
    assert readings == [50.0, 50.11, 60.0]


def test_fullness_is_of_what_this_process_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that others hold is neither ours nor free: a small process beside a large one is in no danger."""
    assert 0 < measure_fullness() < 1
    monkeypatch.setattr(memory_guard, "measure_resident_bytes", lambda: 3 * 2**30)
    monkeypatch.setattr(memory_guard, "find_free_bytes", lambda device: 2**30)
    assert measure_fullness() == 0.75


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
