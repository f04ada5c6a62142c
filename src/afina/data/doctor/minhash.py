"""MinHash: texts with many words in common are found without comparing each with each.

A text is the set of its words and of its pairs of neighbouring words. Of each set, `HASHES` random orders keep the
least element; two sets agree in one of them with the probability of their Jaccard similarity J. The least elements
are joined in bands of `BAND` each, and texts that agree in a whole band are worth comparing, which happens with
probability 1 - (1 - J^BAND)^(HASHES/BAND): 0.99 at J = 0.8, 0.12 at J = 0.4.

Broder, "On the resemblance and containment of documents", 1997. Letters: N texts, H hashes, B bands.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from afina.data.scripts import split_words
from afina.data.split import normalize_text

HASHES, BAND = 60, 5
SEED = 1997

Signatures = NDArray[np.uint32]


def split_shingles(text: str) -> frozenset[str]:
    """The words of a text, or its characters where no spaces part them, and pairs of neighbours, as they read."""
    words = split_words(normalize_text(text))
    return frozenset(words).union(map(" ".join, pairwise(words)))


def compare(first: frozenset[str], second: frozenset[str]) -> float:
    """Jaccard similarity of two sets: the share of their elements that both have."""
    both = len(first & second)
    return both / max(1, len(first) + len(second) - both)


def sign_texts(texts: Sequence[str]) -> Signatures:
    """The least elements of each text (N, H)."""
    sets = [split_shingles(text) or frozenset([""]) for text in texts]
    if not sets:
        return np.zeros((0, HASHES), np.uint32)
    elements = np.fromiter((zlib.crc32(word.encode()) for words in sets for word in words), np.uint64)
    starts = np.cumsum([0, *map(len, sets[:-1])])
    random = np.random.PCG64(SEED).random_raw(2 * HASHES)
    signatures_NH = np.empty((len(sets), HASHES), np.uint32)
    with np.errstate(over="ignore"):
        for column, (factor, offset) in enumerate(zip(random[:HASHES] | np.uint64(1), random[HASHES:], strict=True)):
            mixed = (elements * factor + offset) >> np.uint64(32)
            signatures_NH[:, column] = np.minimum.reduceat(mixed, starts)
    return signatures_NH


def join_bands(signatures_NH: Signatures) -> NDArray[np.uint64]:
    """One hash for each band of each text (N, B)."""
    factors = np.random.PCG64(SEED + 1).random_raw(BAND) | np.uint64(1)
    bands_NBK = signatures_NH.reshape(len(signatures_NH), HASHES // BAND, BAND).astype(np.uint64)
    with np.errstate(over="ignore"):
        mixed_NB = np.zeros(bands_NBK.shape[:2], np.uint64)
        for place, factor in enumerate(factors):
            mixed_NB = (mixed_NB ^ bands_NBK[:, :, place]) * factor
            mixed_NB ^= mixed_NB >> np.uint64(29)
    return mixed_NB
