"""What afina keeps between runs: where, and arrays that any number of runs may read and write at once."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

MOST_BYTES = 10 * 2**30
"""Of features, and of predictions, that are kept together; beyond it those go that were not used for longest."""
STALE_SECONDS = 7 * 24 * 3600
"""Age of what is unfinished from which on nobody is at work on it."""
CHECKSUM = "crc32"
PRIVATE = 0o700  # features and predictions tell of the texts that they are made of


def locate_cache() -> Path:
    """The folder of everything that afina keeps between runs: AFINA_CACHE, or afina under the user's cache folder."""
    if "AFINA_CACHE" in os.environ:
        return Path(os.environ["AFINA_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "afina"


def keep_arrays(path: Path, arrays: Mapping[str, Any], within: Path) -> None:
    """Write a safetensors file under another name, then rename it. A full disk loses the file, not the run.

    Args:
        within: the folder, of this file and others, that is kept below `MOST_BYTES`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    unfinished = path.with_name(f"{uuid.uuid4().hex}.tmp")
    try:
        path.parent.parent.mkdir(PRIVATE, parents=True, exist_ok=True)
        path.parent.mkdir(PRIVATE, exist_ok=True)
        kept = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(kept, unfinished, {CHECKSUM: add_up(kept)})
        os.replace(unfinished, path)
        trim(within)
    except (OSError, SafetensorError):  # the latter is what safetensors makes of a full disk
        with contextlib.suppress(OSError):
            unfinished.unlink()


def recall_arrays(path: Path) -> dict[str, Any] | None:
    """The arrays of such a file; None where there is none that holds what was written, and they are computed again."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
            known = (file.metadata() or {}).get(CHECKSUM)
        if known != add_up(found):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used just now
        return found
    except (SafetensorError, OSError, ValueError):
        return None


def add_up(arrays: Mapping[str, Any]) -> str:
    """A CRC-32 over names and contents."""
    total = 0
    for name in sorted(arrays):
        total = zlib.crc32(arrays[name].reshape(-1).view(np.uint8), zlib.crc32(name.encode(), total))
    return f"{total:08x}"


def keep_values(path: Path, values: Mapping[str, Any]) -> None:
    """Write a small JSON file under another name, then rename it. Where that can't be, it isn't kept."""
    unfinished = path.with_name(f"{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(PRIVATE, parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(values), encoding="utf-8")
        os.replace(unfinished, path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def recall_values(path: Path) -> dict[str, Any]:
    """What such a file holds; nothing where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def remove_stale(paths: Iterable[Path]) -> None:
    """Remove what processes that were killed have left unfinished: what is older than any of them takes."""
    for path in paths:
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime < STALE_SECONDS:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def trim(folder: Path) -> None:
    """Remove files below the folder, those not used for longest first, until the rest has `MOST_BYTES` at most. Another
    process that looks for one of them computes it again."""
    remove_stale(folder.rglob("*.tmp"))
    sizes: dict[Path, os.stat_result] = {}
    for path in folder.rglob("*.safetensors"):
        with contextlib.suppress(OSError):  # gone by now
            sizes[path] = path.stat()
    total = sum(found.st_size for found in sizes.values())
    for path, found in sorted(sizes.items(), key=lambda each: each[1].st_mtime_ns):
        if total <= MOST_BYTES:
            break
        with contextlib.suppress(OSError):
            path.unlink()
        total -= found.st_size
