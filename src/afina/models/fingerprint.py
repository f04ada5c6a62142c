"""The identity of a model: a hash over what decides its numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

CHUNK_BYTES = 1 << 20
PATTERNS = (
    "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json",
    "tokenizer*.json", "*.jinja", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model",
    "bpe.codes", "tekken.json",
)  # fmt: skip

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")

_memo: dict[tuple[str, int, int], str] = {}


def hash_model(folder: Path) -> str:
    """64 hex digits, equal for two folders with the same weights, config and tokenizer, its chat template too.

    Names and contents count; dates, places and other files don't. Read in pieces, and remembered in this
    process for as long as the files' sizes and dates stay.
    """
    return _hash_files(folder, PATTERNS)


def hash_weights(folder: Path) -> str:
    """The same of the weights alone."""
    return _hash_files(folder, WEIGHTS)


def _hash_files(folder: Path, patterns: Iterable[str]) -> str:
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    total = hashlib.sha256()
    for path in files:
        about = path.stat()
        state = (str(path), about.st_size, about.st_mtime_ns)
        if state not in _memo:
            _memo[state] = _hash_file(path)
        total.update(f"{path.name}\0{_memo[state]}\n".encode())
    return total.hexdigest()


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()
