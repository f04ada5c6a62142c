"""Keep freed memory in the process while steps or batches repeat themselves.

Each one frees its gradients and activations and the next one asks for the same sizes again. glibc gives large blocks
back to the system at once and the system clears each page anew: a fifth of a step of MiniLM on short texts, and a tenth
of a pass without gradients. The numbers that are computed don't change. Other C libraries are left alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Any

# From malloc.h, with glibc's defaults.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
DEFAULT_TRIM_BYTES, DEFAULT_MMAPS = 128 * 1024, 65536
NEVER = 2**31 - 1


class Kept:
    """How the process stands."""

    is_on = False


@contextlib.contextmanager
def keep_freed_memory() -> Iterator[bool]:
    """A context in which freed memory stays with the process; before and afterwards what is free is given back.

    Loading a model leaves up to twice its size free in pieces that no training step asks for. One inside another, as an
    evaluation inside a training, changes nothing.

    Gives whether this C library knows how.
    """
    library = load_glibc()
    if library is None or Kept.is_on:
        yield library is not None
        return
    Kept.is_on = True
    library.malloc_trim(0)
    library.mallopt(M_MMAP_MAX, 0)
    library.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield True
    finally:
        Kept.is_on = False
        library.mallopt(M_MMAP_MAX, DEFAULT_MMAPS)
        library.mallopt(M_TRIM_THRESHOLD, DEFAULT_TRIM_BYTES)
        library.malloc_trim(0)


def trim_freed_memory() -> None:
    """Give all that is free back to the system once, where the C library knows how."""
    library = load_glibc()
    if library is not None:
        library.malloc_trim(0)


def load_glibc() -> Any:
    """The C library, if it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
