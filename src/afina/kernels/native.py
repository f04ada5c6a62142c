"""The compiled kernels, where the installation could build them (`hatch_build.py`), and what may be given to them."""

from __future__ import annotations

import ctypes
import hashlib
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parent
LIBRARY = FOLDER / "libkernels.so"
FOR_ANY, FOR_WIDE_VECTORS = 0, 1
"""What a library says of the processors it was compiled for, where these aren't several kinds."""
NO_UNIT, AVX512_UNIT, AMX_UNIT = 0, 1, 2
"""What it says of the units of this processor that multiply bf16 numbers: those of AVX512-BF16, the tiles of AMX."""


class Allowed:
    """Whether this process uses them."""

    is_on = True


def allow_compiled(is_on: bool) -> None:
    """Use the compiled kernels from here on, or the plain forms beside them (`training.compiled_kernels`)."""
    Allowed.is_on = is_on


def load_library() -> ctypes.CDLL | None:
    """The library; None where it isn't allowed or can't be used."""
    return find_library() if Allowed.is_on else None


@lru_cache(maxsize=1)
def find_library() -> ctypes.CDLL | None:
    """The library; None where it wasn't built, is for another kind of machine or processor, or was compiled from other
    sources: in a checkout that was updated since, its structures may be other ones.

    torch is imported before: it loads the OpenMP whose threads the kernels use, which is looked for by the library.
    """
    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.afina_source_hash.restype = ctypes.c_char_p
        compiled_from = library.afina_source_hash().decode()
        current, targets = hash_sources(), library.afina_targets()
    except (OSError, AttributeError):
        return None
    is_usable = compiled_from == current and (targets != FOR_WIDE_VECTORS or has_wide_vectors())
    return library if is_usable else None


def load_layer_kernels() -> ctypes.CDLL | None:
    """The library, for kernels of layers; None also where no register of the processor holds sixteen numbers.

    Compilers keep such vectors in memory there: compiled for AVX2, most of these kernels take three to thirty times as
    long, softmax and sums longer than torch's operations. The step's kernel has loops that suit any processor. None,
    too, where the compiler could not be told of AVX512.
    """
    library = load_library()
    return library if library is not None and has_wide_vectors() and library.afina_targets() != FOR_ANY else None


@lru_cache(maxsize=1)
def has_wide_vectors() -> bool:
    """Whether this processor has AVX512."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def load_tile_kernels() -> ctypes.CDLL | None:
    """The library, for kernels that multiply blocks of numbers; None also where the processor has no unit for it."""
    library = load_layer_kernels()
    return library if library is not None and find_tile_unit() != NO_UNIT else None


@lru_cache(maxsize=1)
def find_tile_unit() -> int:
    """The fastest of the units that multiply blocks of bf16 numbers here: the system must let this process use it, and
    the compiler have known it."""
    library = find_library()
    return NO_UNIT if library is None else int(library.afina_find_tile_unit())


def hash_sources() -> str:
    """As `hatch_build.py` hashes them."""
    digest = hashlib.sha256()
    for path in sorted(path for path in FOLDER.iterdir() if path.suffix in (".c", ".h")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def find_compiled(*tensors: Tensor) -> ctypes.CDLL | None:
    """The kernels of layers, if all of these lie in a CPU's memory: what has no numbers, as in a plan, lies nowhere."""
    is_there = all(type(each) in (Tensor, nn.Parameter) and each.device.type == "cpu" for each in tensors)
    return load_layer_kernels() if is_there else None


def is_readable(*tensors: Tensor) -> bool:
    """Whether all of these have a format that the kernels of layers know."""
    return all(each.dtype in (torch.bfloat16, torch.float32) for each in tensors)
