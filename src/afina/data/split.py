"""Which rows train, which choose the checkpoint, and which only test: seeded, stratified, and never a text on
two sides.

Rows are dealt by error diffusion: stratum by stratum, in random order, each group of equal texts goes to the
part that lacks most rows. So every stratum is divided in the fractions asked for, and the totals too. Random
order comes from the raw stream of PCG64, which numpy promises to keep: the same rows on every machine and in
every version.

Letters: N rows, G groups.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Numbers = NDArray[np.int32]
Parts = NDArray[np.int8]
QUANTILES = 10
KEEPER = "train"
GROUPS_AT_ONCE = 8192


def split_rows(groups_N: Ints, strata_N: Ints, fractions: Mapping[str, float], seed: int) -> dict[str, Ints]:
    """Rising indices of the rows of each part.

    `fractions` sum to 1 and have a key "train". Rows of one group stay together; each stratum has a row in
    train, and a stratum with a single group is there whole, beyond its fraction.
    """
    group_N = _number_values(groups_N)
    stratum_N = _number_values(strata_N)
    strata_G = _find_group_strata(group_N, stratum_N)
    sizes_G = np.bincount(group_N).astype(np.int32)
    names = list(fractions)
    parts_G = _deal(strata_G, sizes_G, list(fractions.values()), names.index(KEEPER), seed)
    _fill_empty_parts(parts_G, strata_G, sizes_G, names)
    _give_train_each_stratum(parts_G, group_N, stratum_N, names.index(KEEPER))
    parts_N = parts_G[group_N]
    return {name: np.flatnonzero(parts_N == i) for i, name in enumerate(names)}


def _number_values(values_N: Ints) -> Numbers:
    """The place of each value among the distinct ones (N,): `np.unique`'s inverse for a third of its memory."""
    order_N = np.argsort(values_N, kind="stable")
    numbers_N = np.empty(len(values_N), np.int32)
    numbers_N[order_N] = np.cumsum(_find_changes(values_N[order_N]), dtype=np.int32) - 1
    return numbers_N


def _find_changes(sorted_N: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Whether each value is the first of its kind (N,)."""
    is_first_N = np.ones(len(sorted_N), np.bool_)
    is_first_N[1:] = sorted_N[1:] != sorted_N[:-1]
    return is_first_N


def _find_group_strata(groups_N: Numbers, strata_N: Numbers) -> Numbers:
    """The rarest stratum among the rows of each group (G,)."""
    rarity_N = np.bincount(strata_N).astype(np.int32)[strata_N]
    order_N = np.lexsort((strata_N, rarity_N, groups_N))
    return strata_N[order_N[_find_changes(groups_N[order_N])]]


def _deal(strata_G: Numbers, sizes_G: Numbers, fractions: list[float], keeper: int, seed: int) -> Parts:
    """The part of each group (G,)."""
    # Large groups go first in their stratum, so that the small ones can even out what they upset.
    order_G = np.lexsort((np.random.PCG64(seed).random_raw(len(sizes_G)), -sizes_G, strata_G))
    group_counts = np.bincount(strata_G)
    parts_G = np.full(len(sizes_G), keeper, dtype=np.int8)
    lacks, last = [0.0] * len(fractions), -1
    for group, stratum, size in _iterate_groups(order_G, strata_G, sizes_G):
        if group_counts[stratum] == 1:
            continue
        for i, fraction in enumerate(fractions):
            lacks[i] += fraction * size
        part = keeper if stratum != last else max(range(len(lacks)), key=lacks.__getitem__)
        lacks[part] -= size
        parts_G[group], last = part, stratum
    return parts_G


def _iterate_groups(order_G: Ints, strata_G: Numbers, sizes_G: Numbers) -> Iterator[tuple[int, int, int]]:
    """Group, stratum and size in the given order, as Python's numbers, of which a few are held at a time."""
    for start in range(0, len(order_G), GROUPS_AT_ONCE):
        order = order_G[start : start + GROUPS_AT_ONCE]
        yield from zip(order.tolist(), strata_G[order].tolist(), sizes_G[order].tolist(), strict=True)


def _fill_empty_parts(parts_G: Parts, strata_G: Numbers, sizes_G: Numbers, names: list[str]) -> None:
    """Give a part without rows the smallest group that train can spare."""
    keeper = names.index(KEEPER)
    for part in range(len(names)):
        if part == keeper or np.any(parts_G == part):
            continue
        is_kept_G = parts_G == keeper
        spare_G = np.flatnonzero(
            is_kept_G & (np.bincount(strata_G[is_kept_G], minlength=strata_G.max() + 1)[strata_G] > 1)
        )
        if len(spare_G):
            parts_G[spare_G[np.argmin(sizes_G[spare_G])]] = part


def _give_train_each_stratum(parts_G: Parts, groups_N: Numbers, strata_N: Numbers, keeper: int) -> None:
    """Move a group to train for each stratum whose rows went elsewhere, within groups of several strata."""
    absent = np.setdiff1d(strata_N, strata_N[parts_G[groups_N] == keeper])
    for stratum in absent:
        parts_G[groups_N[strata_N == stratum].min()] = keeper


def find_strata(targets_N: NDArray[np.float32]) -> Ints:
    """Tenths of the rows by size of the number to predict (N,)."""
    edges = np.quantile(targets_N, np.linspace(0, 1, QUANTILES + 1)[1:-1])
    return np.searchsorted(edges, targets_N, side="right").astype(np.int64)


def find_rarest_labels(labels_NC: NDArray[np.uint8]) -> Ints:
    """The rarest label of each row (N,); C, the number of classes, for rows without labels."""
    counts_C = labels_NC.sum(axis=0, dtype=np.int64)
    strata_N = np.full(len(labels_NC), labels_NC.shape[1], dtype=np.int64)
    for label in np.argsort(-counts_C, kind="stable"):
        strata_N[labels_NC[:, label] > 0] = label
    return strata_N


def normalize_text(text: str) -> str:
    """The text without what makes no difference to a reader: case, white space, compatibility forms."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def hash_texts(rows: Iterable[tuple[str, ...]]) -> Ints:
    """64-bit hashes of the normalised texts (N,): equal for rows that read the same. BLAKE2b."""
    return np.fromiter(map(_hash_text, rows), np.int64)


def _hash_text(texts: tuple[str, ...]) -> int:
    text = "\0".join(map(normalize_text, texts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)
