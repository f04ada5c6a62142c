"""Memory that is nearly full is noticed, and what was freed is given back first."""

from __future__ import annotations

import pytest

from afina.models.shortage import MemoryNearlyFull
from afina.training import memory_guard
from afina.training.memory_guard import MemoryGuard, measure_fullness


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
