"""seen_texts.npy: which texts a model has learned from, so that scores on the same texts aren't taken for honest ones.

The file holds the 64-bit hashes that also keep equal texts on one side of the split (`data.split.hash_texts`), rising
and each once: 8 bytes a text, the same for the same rows. For a language model they are those of the prompts.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afina.errors import RunFolderError
from afina.runs.folder import RunFolder

SEEN_TEXTS = "seen_texts.npy"


def write_seen_texts(folder: RunFolder, hashes: Sequence[NDArray[np.int64]]) -> None:
    """Keep the hashes (N,) of the parts that were learned from."""
    content = io.BytesIO()
    np.save(content, np.unique(np.concatenate(hashes)).astype("<i8"), allow_pickle=False)
    folder.write_bytes(SEEN_TEXTS, content.getvalue())


def count_seen_texts(folder: RunFolder, hashes_N: NDArray[np.int64]) -> int | None:
    """How many of the rows with these hashes the model learned from; None where the run doesn't hold the file.

    Raises:
        RunFolderError: if the file is damaged.
    """
    path = folder.path / SEEN_TEXTS
    try:
        seen: NDArray[Any] = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError):
        raise RunFolderError(
            f"{path} is damaged", expected="the file as afina train wrote it", remedy=f"remove {path}"
        ) from None
    return int(np.isin(hashes_N, seen).sum())
