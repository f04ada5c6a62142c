"""The identity of a model: a hash over what decides its numbers."""

from __future__ import annotations

import hashlib
from pathlib import Path

CHUNK_BYTES = 1 << 20
PATTERNS = (
    "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json",
    "tokenizer*.json", "*.jinja", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model",
    "bpe.codes", "tekken.json",
)  # fmt: skip

_memo: dict[tuple[tuple[str, int, int], ...], str] = {}


def hash_model(folder: Path) -> str:
    """64 hex digits, equal for two folders with the same weights, config and tokenizer, its chat template too.

    Names and contents count; dates, places and other files don't. Read in pieces, and remembered in this
    process for as long as the files' sizes and dates stay.
    """
    files = sorted({path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()})
    stats = [path.stat() for path in files]
    state = tuple((str(p), s.st_size, s.st_mtime_ns) for p, s in zip(files, stats, strict=True))
    if state not in _memo:
        total = hashlib.sha256()
        for path in files:
            total.update(f"{path.name}\0{_hash_file(path)}\n".encode())
        _memo[state] = total.hexdigest()
    return _memo[state]


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()
