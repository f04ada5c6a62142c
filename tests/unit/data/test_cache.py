"""What is kept between runs stays below a limit, and what is used stays longest."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from afina.data import cache
from afina.data.cache import keep_arrays, recall_arrays, remove_stale


def test_what_was_not_used_for_longest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rows = tmp_path / "features", {"rows": np.zeros(1000, np.float32)}
    paths = [folder / name / "a.safetensors" for name in ("one", "two", "three")]
    for age, path in enumerate(paths):
        keep_arrays(path, rows, folder)
        os.utime(path, (1000.0 + age, 1000.0 + age))
    size = paths[0].stat().st_size
    monkeypatch.setattr(cache, "MOST_BYTES", 3 * size)
    assert recall_arrays(paths[0]) is not None  # used, so it is the youngest now
    keep_arrays(folder / "four" / "a.safetensors", rows, folder)
    assert [path.exists() for path in paths] == [True, False, True]
    assert recall_arrays(paths[1]) is None
    (tmp_path / "other.safetensors").write_bytes(bytes(9 * size))
    keep_arrays(folder / "five" / "a.safetensors", rows, folder)
    assert (tmp_path / "other.safetensors").exists(), "outside of the folder"
    assert [path.exists() for path in paths] == [True, False, False]


def test_flipped_bits_are_found(tmp_path: Path) -> None:
    arrays = {"a": np.arange(1000, dtype=np.float32), "b": np.zeros((0, 3), np.uint8), "c": np.array([True, False])}
    path = tmp_path / "kept" / "a.safetensors"
    keep_arrays(path, arrays, tmp_path)
    found = recall_arrays(path)
    assert found is not None
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    path.write_bytes(content)
    assert recall_arrays(path) is None


def test_what_killed_processes_have_left_is_removed_in_time(tmp_path: Path) -> None:
    old, new, folder = tmp_path / "old.tmp", tmp_path / "new.tmp", tmp_path / ".unfinished-a"
    folder.mkdir()
    (folder / "model").touch()
    for path in (old, new):
        path.touch()
    for path in (old, folder):
        os.utime(path, (1000.0, 1000.0))
    remove_stale([old, new, folder, tmp_path / "gone"])
    assert [path.name for path in tmp_path.iterdir()] == ["new.tmp"]
    os.utime(new, (1000.0, 1000.0))
    keep_arrays(tmp_path / "kept" / "a.safetensors", {"a": np.zeros(3)}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
