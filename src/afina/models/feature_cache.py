"""Features on disk, found again by what they were made of: model, tokenizer, settings (the folder) and tokens (the
key).

A folder holds shards, each a safetensors file with `keys` (D, 16) and one array a pooling (D, H). Shards are
written under another name and renamed, and none is ever changed, so any number of runs may share the cache.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from afina.data.cache import keep_arrays, recall_arrays

Floats = npt.NDArray[np.float32]
Keys = npt.NDArray[np.void]


class FeatureCache:
    """The features of one model under one set of settings.

    Args:
        root: the cache's folder.
        made_of: whatever the numbers depend on beside the tokens: the model's hash, poolings, precision.
    """

    def __init__(self, root: Path, made_of: Mapping[str, Any]) -> None:
        name = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]
        self.folder = root / "features" / name

    def find(self, keys_D: Keys, poolings: tuple[str, ...]) -> tuple[dict[str, Floats], npt.NDArray[np.bool_]]:
        """What is known: arrays (D, H) a pooling, and which of the D rows they hold. No arrays if nothing is known."""
        known_D = np.zeros(len(keys_D), bool)
        arrays: dict[str, Floats] = {}
        wanted = keys_D.view("S16")
        for shard in self.list_shards():
            stored = recall_arrays(shard)
            if stored is None or not {"keys", *poolings} <= set(stored):
                continue
            shard_keys = np.ascontiguousarray(stored["keys"]).view("S16").ravel()
            order = np.argsort(shard_keys)
            places = np.searchsorted(shard_keys, wanted, sorter=order).clip(max=len(shard_keys) - 1)
            hits_D = (shard_keys[order[places]] == wanted) & ~known_D
            for name in poolings:
                if name not in arrays:
                    arrays[name] = np.empty((len(keys_D), stored[name].shape[1]), np.float32)
                arrays[name][hits_D] = stored[name][order[places[hits_D]]]
            known_D |= hits_D
        return arrays, known_D

    def list_shards(self) -> list[Path]:
        """The files of this cache; none where it can't be looked into."""
        try:
            return sorted(self.folder.glob("*.safetensors"))
        except OSError:
            return []

    def add(self, keys_D: Keys, features: Mapping[str, Floats]) -> None:
        """Keep new rows."""
        keys = np.frombuffer(keys_D.tobytes(), np.uint8).reshape(-1, 16)
        keep_arrays(self.folder / f"{uuid.uuid4().hex}.safetensors", {"keys": keys, **features}, self.folder.parent)
