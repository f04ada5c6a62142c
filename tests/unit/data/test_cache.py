"""What is kept between runs stays below a limit, and what is used stays longest."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from afina.data import cache
from afina.data.cache import keep_arrays, recall_arrays


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
