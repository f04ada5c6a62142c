"""What the weight files of a folder hold, from the headers of safetensors alone: no tensor is read, no torch
needed.

A safetensors file is: 8 bytes with the length N of the header (little endian), N bytes of JSON (name ->
dtype, shape, begin and end of the bytes), the tensors (https://huggingface.co/docs/safetensors). Its length
follows from the header, so a file cut short by a broken download is found without reading it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afina.errors import Problem

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
DTYPE_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
    "BOOL": "bool",
}  # fmt: skip
BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
    "BOOL": 1,
}  # fmt: skip
"""Of one number."""
# Tables that old checkpoints carry beside the weights; transformers computes them anew.
BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def is_parameter(self) -> bool:
        """Whether it can be trained: floating numbers, and not a table that is only stored along."""
        is_bias = len(self.shape) == 1 and self.name.endswith(".bias")
        is_table = not is_bias and self.name.endswith(BUFFERS)
        return self.dtype.startswith(("F", "BF")) and not is_table

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


class BrokenWeightsError(Exception):
    """The weights can't be used; `problems` says why. Never leaves `afina.models`."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems


def find_weights(folder: Path) -> tuple[Path, ...]:
    """The files of weights that transformers would load, sorted by name.

    Raises BrokenWeightsError: none in safetensors, or an index that names files which are not there.
    """
    if (folder / SINGLE).is_file():
        return (folder / SINGLE,)
    if (folder / INDEX).is_file():
        return _find_shards(folder)
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        raise BrokenWeightsError(_describe_pickles(folder, pickles))
    weights = [name for name in names if name.endswith((".safetensors", ".gguf", ".h5", ".msgpack", ".onnx"))]
    raise BrokenWeightsError(
        Problem(
            "there are no weights",
            found=", ".join((weights or names)[:8]),
            expected=f"{SINGLE}, or {INDEX} with the files that it names",
            remedy="copy the weights into the folder, or name another folder with --model",
        )
    )


def read_tensors(files: Iterable[Path]) -> list[Tensor]:
    """All tensors of the files. Raises BrokenWeightsError with one problem for each file that is damaged."""
    tensors: list[Tensor] = []
    problems: list[Problem] = []
    for path in files:
        try:
            tensors += _read_header(path)
        except BrokenWeightsError as error:
            problems += error.problems
    if problems:
        raise BrokenWeightsError(*problems)
    return tensors


def _describe_pickles(folder: Path, pickles: list[str]) -> Problem:
    code = "from transformers import AutoModel; "
    code += f"AutoModel.from_pretrained({str(folder)!r}).save_pretrained('NEW')"
    return Problem(
        "the weights are stored as pickled objects, which can run any program while they are loaded",
        found=", ".join(pickles[:8]),
        expected=SINGLE,
        remedy=f'on a machine where that may do no harm: python -c "{code}", then copy the tokenizer there',
    )


def _find_shards(folder: Path) -> tuple[Path, ...]:
    """The files named by the index, each of which stands right in the folder."""
    try:
        index: Any = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        names = sorted(set(index["weight_map"].values()))
        is_plain = bool(names) and all(isinstance(name, str) and Path(name).name == name for name in names)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        is_plain = False
    if not is_plain:
        raise BrokenWeightsError(
            Problem(
                f"{INDEX} is damaged",
                expected='JSON with "weight_map": {tensor: file}, where each file is in the same folder',
                remedy="download or save the model again",
            )
        )
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise BrokenWeightsError(
            Problem(
                f"{len(missing)} of the {len(names)} files named by {INDEX} are missing",
                found=f"not there: {', '.join(missing[:8])}{', ...' if len(missing) > 8 else ''}",
                remedy="download or save the model again",
            )
        )
    return tuple(folder / name for name in names)


def _read_header(path: Path) -> list[Tensor]:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        header_bytes = int.from_bytes(start, "little")
        if start == LFS_POINTER[:8] and file.read(len(LFS_POINTER) - 8) == LFS_POINTER[8:]:
            raise BrokenWeightsError(
                Problem(
                    f"{path.name} is a pointer of Git LFS, not the weights",
                    found=f"{size:,} bytes",
                    remedy="run in the model's folder: git lfs pull",
                )
            )
        if len(start) < 8 or header_bytes > min(MAX_HEADER_BYTES, size - 8):
            raise _describe_damage(path, f"{size:,} bytes without a whole header")
        header = file.read(header_bytes)
    try:
        entries = json.loads(header)
        tensors = [_parse_entry(name, entry) for name, entry in entries.items() if name != "__metadata__"]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise _describe_damage(path, "a header that is not the JSON of safetensors") from None
    if not tensors:
        raise _describe_damage(path, "a header that names no tensor")
    whole = 8 + header_bytes + sum(tensor.bytes for tensor in tensors)
    if size != whole:
        raise _describe_damage(path, f"{size:,} bytes, while its header describes {whole:,}")
    return tensors


def _parse_entry(name: str, entry: dict[str, Any]) -> Tensor:
    begin, end = entry["data_offsets"]
    shape, dtype, size = tuple(int(length) for length in entry["shape"]), str(entry["dtype"]), int(end) - int(begin)
    if min((*shape, size)) < 0 or (dtype in BYTES and size != math.prod(shape) * BYTES[dtype]):
        raise ValueError(f"{name} takes {size} bytes")
    return Tensor(name, dtype, shape, size)


def _describe_damage(path: Path, found: str) -> BrokenWeightsError:
    return BrokenWeightsError(
        Problem(f"{path.name} is damaged or cut short", found=found, remedy="download or save the model again")
    )
