"""What a GGUF file says of itself: its settings and its table of tensors. No tensor is read, no torch needed.

A GGUF file is: magic, version, two counts, the settings (key, type, value), the table of tensors (name, shape,
type, place), padding, the tensors (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Decisions:

- Nothing that the file claims is believed: every count and length has a limit, and no more is ever read than
  the file still holds, so a forged size costs no memory.
- A reader of our own, since the one of the package `gguf` maps the whole file and trusts its sizes.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from afina.errors import ModelError, describe_cause

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_HEADER_BYTES = 1 << 28
MAX_SETTINGS = 1 << 16
MAX_TENSORS = 1 << 16
MAX_NAME_BYTES = (1 << 16) - 1
MAX_TEXT_BYTES = 1 << 26
MAX_ITEMS = 1 << 22
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 16
# Codes of the types of values: the fixed ones as `struct` names them, and the two that have a length.
FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, ARRAY = 8, 9
# Code of a type of tensors -> name, numbers in a block, bytes of a block.
TENSOR_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One entry of the table."""

    name: str
    shape: tuple[int, ...]
    """Rows first, as in torch; the file has it the other way round."""
    type: str
    begin: int
    """Place of its first byte in the file."""
    bytes: int

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The settings and the table of tensors of one file."""

    path: Path
    size: int
    """Bytes of the whole file."""
    settings: dict[str, Any]
    tensors: tuple[GgufTensor, ...]

    def find(self, key: str, kind: type[Value]) -> Value | None:
        """The setting, None where the file has none. Raises ModelError for one of another type."""
        value = self.settings.get(key)
        if value is None or type(value) is kind:
            return value
        raise describe_damage(self.path, f"{key} is {type(value).__name__} instead of {kind.__name__}")

    def find_list(self, key: str, kind: type[Value]) -> list[Value] | None:
        """The setting that is a list of one type, None where the file has none."""
        items = self.find(key, list)
        if items and type(items[0]) is not kind:  # a list has one type, given once in the file
            raise describe_damage(self.path, f"{key} lists {type(items[0]).__name__} instead of {kind.__name__}")
        return items

    @property
    def architecture(self) -> str:
        """What kind of model it is, by llama.cpp's name."""
        name = self.find("general.architecture", str)
        if not name:
            raise describe_damage(self.path, "no general.architecture")
        return name


def read_header(path: Path) -> GgufHeader:
    """The header of the file. Raises ModelError: no GGUF, another version, damaged, or with absurd sizes."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            reader = _Reader(path, file, size)
            tensor_count, setting_count = _read_start(reader)
            settings = _read_settings(reader, setting_count)
            entries = _read_table(reader, tensor_count)
    except OSError as error:
        raise ModelError(
            f"{path} can't be read", found=describe_cause(error), remedy="--model with a readable .gguf file"
        ) from None
    alignment = settings.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= MAX_ALIGNMENT or alignment.bit_count() != 1:
        raise describe_damage(path, f"general.alignment {str(alignment)[:80]}")
    data_begin = -(-reader.position // alignment) * alignment
    tensors = [GgufTensor(name, shape, kind, data_begin + place, count) for name, shape, kind, place, count in entries]
    return GgufHeader(path, size, settings, tuple(tensors))


class _Reader:
    """Takes bytes from the start of a file, never more than are there."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path, self.file, self.size = path, file, size
        self.position = 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if self.position + count > self.size:
            raise describe_damage(self.path, f"a header that goes on after the end, at byte {self.size:,}")
        if self.position + count > MAX_HEADER_BYTES:
            raise describe_damage(self.path, f"a header of more than {MAX_HEADER_BYTES:,} bytes")
        data = self.file.read(count)
        if len(data) < count:
            raise describe_damage(self.path, "a file that became shorter while it was read")
        self.position += count
        return data

    def take_number(self, code: str) -> Any:
        """The next number, of the type that `struct` calls so."""
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def take_count(self, code: str, limit: int, what: str) -> int:
        """The next number, which counts something and so has a limit."""
        count: int = self.take_number(code)
        if count > limit:
            raise describe_damage(self.path, f"{count:,} {what}, more than {limit:,}")
        return count

    def take_text(self, limit: int = MAX_TEXT_BYTES) -> str:
        """The next text, its length before it."""
        data = self.take(self.take_count("Q", limit, "bytes of one text"))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise describe_damage(self.path, f"a text that is not UTF-8, before byte {self.position:,}") from None

    def take_value(self, code: int) -> Any:
        """The next value of the type with this code: a number, a text, or a list of either."""
        if code == TEXT:
            return self.take_text()
        if code in FIXED:
            return self.take_number(FIXED[code])
        if code != ARRAY:
            raise describe_damage(self.path, f"a value of the unknown type {code}")
        item = self.take_number("I")
        count = self.take_count("Q", MAX_ITEMS, "items of one list")
        if item == TEXT:
            return [self.take_text() for _ in range(count)]
        if item not in FIXED:
            raise describe_damage(self.path, f"a list of the unknown type {item}")
        pattern = f"<{count}{FIXED[item]}"
        return list(struct.unpack(pattern, self.take(struct.calcsize(pattern))))


def _read_start(reader: _Reader) -> tuple[int, int]:
    """How many tensors and how many settings follow."""
    start = reader.take(min(8, reader.size))
    if start[:4] != MAGIC:
        pointer = start == b"version "  # such a file begins: version https://git-lfs...
        raise ModelError(
            f"{reader.path} is a pointer of Git LFS, not the model" if pointer else f"{reader.path} is no GGUF file",
            found=f"{reader.size:,} bytes, the first of them {start[:4]!r}",
            expected="a file that begins with b'GGUF'",
            remedy="run in its folder: git lfs pull" if pointer else "--model with a .gguf file, or with a folder",
        )
    version = int.from_bytes(start[4:], "little")
    if version not in VERSIONS:
        big_endian = int.from_bytes(start[4:], "big") in VERSIONS
        raise ModelError(
            f"{reader.path} has a version of GGUF that can't be read",
            found="bytes in big-endian order" if big_endian else f"version {version}",
            expected=f"version {' or '.join(map(str, VERSIONS))} in little-endian order",
            remedy="--model with a newer .gguf file of this model",
        )
    tensors = reader.take_count("Q", MAX_TENSORS, "tensors")
    return tensors, reader.take_count("Q", MAX_SETTINGS, "settings")


def _read_settings(reader: _Reader, count: int) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for _ in range(count):
        key = reader.take_text(MAX_NAME_BYTES)
        if key in settings:
            raise describe_damage(reader.path, f"the setting {key[:80]!r} twice")
        settings[key] = reader.take_value(reader.take_number("I"))
    return settings


def _read_table(reader: _Reader, count: int) -> list[tuple[str, tuple[int, ...], str, int, int]]:
    """Name, shape, type, place in the data, and bytes of each tensor."""
    entries = []
    names: set[str] = set()
    for _ in range(count):
        name = reader.take_text(MAX_NAME_BYTES)
        dimensions = reader.take_count("I", MAX_DIMENSIONS, "dimensions of one tensor")
        lengths = tuple(reader.take_number("Q") for _ in range(dimensions))
        code, place = reader.take_number("I"), reader.take_number("Q")
        if name in names or 0 in lengths or not lengths:
            raise describe_damage(reader.path, f"the tensor {name[:80]!r} twice or without a size")
        names.add(name)
        kind, block, block_bytes = _find_type(reader.path, name, code)
        if lengths[0] % block:
            raise describe_damage(reader.path, f"the tensor {name[:80]!r} in blocks of {block} is {lengths[0]:,} wide")
        entries.append((name, lengths[::-1], kind, place, math.prod(lengths) // block * block_bytes))
    return entries


def _find_type(path: Path, name: str, code: int) -> tuple[str, int, int]:
    if code not in TENSOR_TYPES:
        raise ModelError(
            f"{path} holds numbers of a type that can't be read",
            found=f"the tensor {name[:80]!r} of type {code}",
            expected=f"one of {', '.join(kind for kind, *_ in TENSOR_TYPES.values())}",
            remedy="--model with a file of this model in another quantisation, such as Q8_0, or with the original",
        )
    return TENSOR_TYPES[code]


def describe_damage(path: Path, found: str) -> ModelError:
    """The error for a file that is not what it should be."""
    return ModelError(f"{path} is damaged or cut short", found=found, remedy="download the file again")
