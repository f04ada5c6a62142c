"""The compiled kernel of adamw.c, where the installation could build it (`hatch_build.py`)."""

from __future__ import annotations

import ctypes
import hashlib
from functools import lru_cache
from pathlib import Path

SOURCE = Path(__file__).with_name("adamw.c")
# Not "adamw.so", which Python would take for the module of that name.
LIBRARY = SOURCE.with_name("libadamw.so")


@lru_cache(maxsize=1)
def load_library() -> ctypes.CDLL | None:
    """The library; None where it wasn't built, is for another kind of machine, or was compiled from another source:
    in a checkout that was updated since, its structures may be other ones.
    """
    import torch  # noqa: F401  # loads the OpenMP whose threads the kernel uses, which is looked for when it is loaded

    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.afina_source_hash.restype = ctypes.c_char_p
        compiled_from = library.afina_source_hash().decode()
        current = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    except (OSError, AttributeError):
        return None
    return library if compiled_from == current else None
