"""Freed memory stays with the process inside the context, and only there."""

from __future__ import annotations

import numpy as np
import psutil
import pytest

from afina.kernels import allocator
from afina.kernels.allocator import keep_freed_memory, load_glibc
from afina.training.callbacks.trimmer import STEPS_BETWEEN, MemoryTrimmer

BYTES = 200_000_000


def measure_after_free() -> int:
    """Resident bytes after a large block was taken, written and freed, beyond those before."""
    before = psutil.Process().memory_info().rss
    block = np.ones(BYTES // 8)
    assert block.sum() > 0
    del block
    return psutil.Process().memory_info().rss - before


@pytest.mark.skipif(load_glibc() is None, reason="not glibc")
def test_freed_memory_stays_inside_and_goes_back_after() -> None:
    outside = measure_after_free()
    start = psutil.Process().memory_info().rss
    with keep_freed_memory() as works:
        assert works
        inside = measure_after_free()
    left = psutil.Process().memory_info().rss - start
    assert outside < BYTES // 10
    assert inside > BYTES // 2
    assert left < BYTES // 10


@pytest.mark.skipif(load_glibc() is None, reason="not glibc")
def test_an_evaluation_inside_a_training_gives_nothing_back() -> None:
    with keep_freed_memory():
        with keep_freed_memory() as works:
            assert works
        inside = measure_after_free()
    assert inside > BYTES // 2


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    with keep_freed_memory() as works:
        assert not works


@pytest.mark.skipif(load_glibc() is None, reason="not glibc")
def test_what_lies_free_goes_back_every_few_steps() -> None:
    trimmer = MemoryTrimmer()
    with keep_freed_memory():
        start = psutil.Process().memory_info().rss
        measure_after_free()
        for step in range(1, STEPS_BETWEEN):
            trimmer.on_step_end(step, {})
        kept = psutil.Process().memory_info().rss - start
        trimmer.on_step_end(STEPS_BETWEEN, {})
        left = psutil.Process().memory_info().rss - start
    assert kept > BYTES // 2
    assert left < BYTES // 10
