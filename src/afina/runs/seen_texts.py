"""seen_texts.npy: which texts a model has learned from, so that scores on the same texts aren't taken for honest ones.

The file holds the 64-bit hashes that also keep equal texts on one side of the split (`data.split.hash_texts`), rising
and each once: 8 bytes a text, the same for the same rows. For a language model they are those of the prompts.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afina.errors import RunFolderError
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


def count_seen_texts(folder: RunFolder, hashes_N: NDArray[np.int64]) -> int | None:
    """How many of the rows with these hashes the model learned from; None where the run doesn't hold the file.

    Raises:
        RunFolderError: if the file is damaged.
    """
    path = folder.path / SEEN_TEXTS
    try:
        content = path.read_bytes()
        # numpy would read headers that it never writes, in ways that end in errors of many kinds.
        seen = np.frombuffer(content[HEADER_BYTES:], "<i8")
        is_whole = content == encode_hashes(seen)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        is_whole = False
    if not is_whole:
        raise RunFolderError(
            f"{path} is damaged", expected="the file as afina train wrote it", remedy=f"remove {path}"
        ) from None
    return int(np.isin(hashes_N, seen).sum())
