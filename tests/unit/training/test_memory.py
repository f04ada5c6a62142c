"""The peak of a process's memory and where it begins, and what is free."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_elsewhere_getrusage_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "read_status", lambda name: 0)
    assert memory.measure_resident_peak_bytes() > 2**20


@pytest.mark.parametrize(
    ("line", "controller", "limit", "used"),
    [
        ("0::/slice/job", "", "memory.max", "memory.current"),
        ("4:memory:/slice/job", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ],
)
def test_the_limit_of_a_nested_group_counts(
    line: str, controller: str, limit: str, used: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CGROUPS", ())
    monkeypatch.setattr(memory, "OWN_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setitem(memory.CGROUPS_OF, controller, (str(tmp_path / "root"), (limit, used, "memory.stat")))
    (tmp_path / "cgroup").write_text(f"1:cpu:/\n{line}\n")
    job = tmp_path / "root" / "slice" / "job"
    job.mkdir(parents=True)
    assert memory.find_free_bytes("cpu") > 2**26
    for folder, most in ((job.parent, 50_000_000), (job, 90_000_000)):
        (folder / limit).write_text(f"{most}\n")
        (folder / used).write_text("20000000\n")
    assert memory.find_free_bytes("cpu") == 30_000_000


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used, details = (tmp_path / f"memory.{name}" for name in ("max", "current", "stat"))
    monkeypatch.setattr(memory, "CGROUPS", ((str(limit), str(used), str(details)),))
    free = memory.find_free_bytes("cpu")
    assert free > 2**26
    limit.write_text("50000000\n")
    used.write_text("20000000\n")
    assert memory.find_free_bytes("cpu") == 30_000_000
    details.write_text("active_file 7000000\ninactive_file 4000000\n")  # the latter is given back when it is asked for
    assert memory.find_free_bytes("cpu") == 34_000_000
    limit.write_text("max\n")
    assert memory.find_free_bytes("cpu") > 2**26
