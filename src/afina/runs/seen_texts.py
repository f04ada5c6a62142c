"""seen_texts.npy: which texts a model has learned from, so that scores on the same texts aren't taken for honest ones.

The file holds the 64-bit hashes that also keep equal texts on one side of the split (`data.split.hash_texts`), rising
and each once: 8 bytes a text, the same for the same rows. For a language model they are those of the prompts.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from afina.runs.folder import RunFolder

SEEN_TEXTS = "seen_texts.npy"
HEADER_BYTES = 128
"""Of a file with one dimension, as numpy writes it."""


def write_seen_texts(folder: RunFolder, hashes: Sequence[NDArray[np.int64]]) -> None:
    """Keep the hashes (N,) of the parts that were learned from."""
    folder.write_bytes(SEEN_TEXTS, encode_hashes(np.unique(np.concatenate(hashes)).astype("<i8")))


def encode_hashes(hashes_N: NDArray[np.int64]) -> bytes:
    """The content of a file with these hashes."""
    content = io.BytesIO()
    np.save(content, hashes_N, allow_pickle=False)
    return content.getvalue()


@dataclass(frozen=True)
class SeenTexts:
    """The texts that a model has learned from, as far as its run knows them."""

    hashes: NDArray[np.int64] | None
    """Rising; None where they aren't known."""
    notes: tuple[str, ...] = ()
    """Why, where the file is damaged."""

    def count(self, hashes_N: NDArray[np.int64]) -> int | None:
        """How many of the rows with these hashes the model learned from; None where that isn't known."""
        return None if self.hashes is None else int(np.isin(hashes_N, self.hashes).sum())


def read_seen_texts(folder: RunFolder) -> SeenTexts:
    """Those of a run. It is read before anything is computed, and a damaged file costs no scores."""
    path = folder.path / SEEN_TEXTS
    try:
        content = path.read_bytes()
        # numpy would read headers that it never writes, in ways that end in errors of many kinds.
        seen = np.frombuffer(content[HEADER_BYTES:], "<i8")
        is_whole = content == encode_hashes(seen)
    except FileNotFoundError:
        return SeenTexts(None)
    except (OSError, ValueError):
        is_whole = False
    if not is_whole:
        return SeenTexts(None, (f"{path} is damaged, so whether the model learned from these rows isn't known",))
    return SeenTexts(seen.astype(np.int64))
