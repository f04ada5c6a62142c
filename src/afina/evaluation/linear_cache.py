"""What TF-IDF with a linear model said of the same rows before: whoever tries several techniques trains it once.

A file holds predictions and no texts; its name is a hash of whatever they depend on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afina.data.cache import keep_arrays, recall_arrays
from afina.evaluation import linear
from afina.evaluation.prediction import Kind, Prediction

LIBRARIES = ("numpy", "scipy", "scikit-learn")
LARGEST_BYTES = 64 * 2**20
"""Predictions that take more are not kept."""


@dataclass(frozen=True)
class LinearCache:
    """`fit_linear` with a memory.

    Args:
        root: the cache's folder.
        made_of: what the numbers depend on beside rows, seed, code and libraries: the processor.
    """

    root: Path
    made_of: Mapping[str, Any]

    def fit(
        self,
        kind: Kind,
        train_texts: Sequence[str],
        train: NDArray[Any],
        test_texts: Sequence[str],
        classes: int,
        seed: int,
    ) -> Prediction:
        """As `fit_linear`; what was found has the seconds that it took when it was trained."""
        asked = {
            **self.made_of, "kind": kind, "classes": classes, "seed": seed,
            "train": hash_texts(train_texts), "labels": hashlib.sha256(train.tobytes()).hexdigest(),
            "test": hash_texts(test_texts), "code": hash_code(),
            "libraries": [metadata.version(library) for library in LIBRARIES],
        }  # fmt: skip
        name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]
        path = self.root / "baselines" / f"{name}.safetensors"
        found = read_prediction(path)
        if found is None:
            start = time.perf_counter()
            found = linear.fit_linear(kind, train_texts, train, test_texts, classes, seed)
            write_prediction(path, found, time.perf_counter() - start)
        return found


def write_prediction(path: Path, prediction: Prediction, seconds: float) -> None:
    """Keep what was predicted, unless it is very large."""
    if prediction.values.nbytes > LARGEST_BYTES:
        return
    arrays = {"values": prediction.values, "seconds": np.asarray([seconds])}
    if prediction.thresholds is not None:
        arrays["thresholds"] = prediction.thresholds
    keep_arrays(path, {**arrays, "note": np.frombuffer(prediction.note.encode(), np.uint8)}, path.parent)


def read_prediction(path: Path) -> Prediction | None:
    """What was kept; None where nothing, or nothing whole, is."""
    arrays = recall_arrays(path)
    if arrays is None or not {"values", "seconds", "note"} <= set(arrays):
        return None
    note = arrays["note"].tobytes().decode(errors="replace")
    return Prediction(arrays["values"], arrays.get("thresholds"), note, float(arrays["seconds"][0]))


def hash_texts(texts: Iterable[str]) -> str:
    """A hash of the texts in their order, each with its length, so that none runs into the next."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def hash_code() -> str:
    """A hash of the code that predicts: another version may predict otherwise."""
    return hashlib.sha256(Path(linear.__file__).read_bytes()).hexdigest()
