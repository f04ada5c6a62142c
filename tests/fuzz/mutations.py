"""Files changed at random, starting from real ones: most inputs get past the first check, and many past the second."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

# What readers stumble over: signs of the formats, odd numbers, odd characters, marks of encodings, Jinja, terminals.
PIECES = [
    *(sign.encode() for sign in '{}[]()"\',;:|\t\n\r\\/#%&*!@-+=?<>~`^$'),
    b"\0", b"\xff", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80",
    b"\x1b[2J", b"\r\n", b"\n\n", b'""', b'"""', b"''", b"{}", b"[]", b"[[[[[[[[", b"{{", b"}}", b"{%", b"%}", b"{#",
    b"null", b"true", b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"9" * 25, b"9" * 5000, b"0x10", b"1_000",
    b"1:30", b"2024-01-01", b"\\u0000", b"\\ud800", b"\\u202e", "é\u0301\u200b\u202e".encode(), "😀".encode(),
    b"<script>", b"!!python/object/apply:os.system [x]", b"&a", b"*a", b"<<: *a", b"---", b"role", b"content",
    b"assistant", b"user", b"system", b"tool_calls", b"messages", b"text", b"label", b"train", b"auto", b"<|im_end|>",
    b"__proto__", b"auto_map", b"model_type", b"../../x", b"A" * 300, b"a," * 200, b"[" * 3000, b'{"a":' * 2000,
    (2**63 - 1).to_bytes(8, "little"), (2**64 - 1).to_bytes(8, "little"), (2**31).to_bytes(4, "little"),
    (0).to_bytes(8, "little"), b"PAR1", b"GGUF",
]  # fmt: skip

Mutation = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


def flip(draw: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    place = draw.randrange(len(data) or 1)
    return data[:place] + bytes([(data[place] if data else 0) ^ (1 << draw.randrange(8))]) + data[place + 1 :]


def overwrite(draw: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    place, count = draw.randrange(len(data) + 1), draw.choice((1, 2, 4, 8))
    return data[:place] + draw.randbytes(count) + data[place + count :]


def insert(draw: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    place = draw.randrange(len(data) + 1)
    return data[:place] + draw.choice(PIECES) + data[place:]


def replace(draw: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    piece = draw.choice(PIECES)
    place = draw.randrange(len(data) + 1)
    return data[:place] + piece + data[place + len(piece) :]


def cut(draw: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def remove(draw: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    start = draw.randrange(len(data) + 1)
    return data[:start] + data[start + draw.randrange(1, 32) :]


def repeat(draw: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    start = draw.randrange(len(data) + 1)
    piece = data[start : start + draw.randrange(1, 200)]
    return data[:start] + piece * draw.choice((2, 3, 50)) + data[start:]


def splice(draw: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = draw.choice(seeds)
    return data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other) + 1) :]


def move(draw: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    draw.shuffle(lines)
    return b"\n".join(lines)


MUTATIONS: list[Mutation] = [flip, overwrite, insert, insert, replace, replace, cut, remove, repeat, splice, move]


def make_input(draw: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A seed after a few changes; one in twenty is random bytes alone."""
    if draw.random() < 0.05:
        return draw.randbytes(draw.randrange(64))
    data = draw.choice(seeds)
    for _ in range(draw.choice((1, 1, 2, 3, 5, 9))):
        data = draw.choice(MUTATIONS)(draw, data, seeds)
    return data
