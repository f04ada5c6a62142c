"""The peak of a process's memory, and where it begins."""

from __future__ import annotations

import subprocess
import sys

import pytest

from afina.training import memory


def test_the_peak_grows_with_what_is_held() -> None:
    before = memory.measure_resident_peak_bytes()
    held = bytearray(memory.measure_resident_peak_bytes() + 2**26)
    held[::4096] = bytes(len(range(0, len(held), 4096)))
    assert memory.measure_resident_peak_bytes() >= before + 2**25


@pytest.mark.skipif(not memory.CLEAR.exists(), reason="only Linux forgets a peak")
def test_a_reset_begins_with_what_is_resident_now() -> None:
    held = bytearray(2**28)
    held[::4096] = bytes(len(range(0, len(held), 4096)))
    high = memory.measure_resident_peak_bytes()
    del held
    memory.reset_peak_memory()
    assert memory.measure_resident_peak_bytes() < high - 2**27


@pytest.mark.skipif(not memory.STATUS.exists(), reason="elsewhere there is only getrusage")
def test_a_child_does_not_inherit_its_parents_peak() -> None:
    """getrusage of a new process begins with the memory of the one that started it."""
    held = bytearray(2**29)
    held[::4096] = bytes(len(range(0, len(held), 4096)))
    code = "from afina.training.memory import measure_resident_peak_bytes as m; print(m())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < len(held)


def test_elsewhere_getrusage_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(memory, "read_status", lambda name: 0)
    assert memory.measure_resident_peak_bytes() > 2**20
