"""Scores of tagged words: entities by conlleval's rules, or tag by tag where tags have no prefix.

An entity counts where its first word, its last word and its type are all right (Tjong Kim Sang and De Meulder 2003).
Where entities begin and end is conlleval's: a tag begins one with B or S, with I or E after O, E or S, and wherever
the type differs from the word before. So IOB1, IOB2 (BIO), BIOES and BILOU are read by the same rule, and an I after O
begins an entity. Counts are kept by row, and every score and interval is made of their sums.

Letters: N rows, K words of all rows, C tags, E types of entities (or tags), R resamples.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from afina.metrics.counts import Floats, Ints, divide, score_counts
from afina.metrics.intervals import Interval, bootstrap_rows

Scheme = Literal["BIO", "IOB1", "BIOES", "BILOU", "plain"]
PREFIXED = re.compile(r"([BIESLU])-(.+)", re.DOTALL)
OUTSIDE = "O"
# L and U are what BILOU calls E and S.
CODES = {"O": 0, "B": 1, "I": 2, "E": 3, "L": 3, "S": 4, "U": 4}
_O, _B, _I, _E, _S = range(5)


@dataclass(frozen=True)
class Tagging:
    """What the tags mean: their names, and for entities the prefix and the type of each."""

    names: tuple[str, ...]

    @property
    def is_plain(self) -> bool:
        """Whether tags are names without prefixes, such as parts of speech."""
        return not are_prefixed(self.names)

    @property
    def types(self) -> tuple[str, ...]:
        """Types of entities, or the tags themselves where they are plain."""
        if self.is_plain:
            return self.names
        return tuple(sorted({match[2] for name in self.names if (match := PREFIXED.fullmatch(name))}))

    def list_codes(self) -> Ints:
        """The prefix of each tag as a number of `CODES` (C,)."""
        return np.asarray([CODES[name[0]] for name in self.names], np.int64)

    def list_types(self) -> Ints:
        """The place of each tag's type among `types`; -1 for O (C,)."""
        places = {name: place for place, name in enumerate(self.types)}
        return np.asarray([places.get(name[2:], -1) for name in self.names], np.int64)


def are_prefixed(names: Sequence[str]) -> bool:
    """Whether each tag is O or begins with a prefix."""
    return all(name == OUTSIDE or PREFIXED.fullmatch(name) for name in names)


@dataclass(frozen=True)
class Entities:
    """Entities of all rows, in their order."""

    first: Ints
    """The place of the first word among all words."""
    last: Ints
    """The place of the last word."""
    type: Ints
    """The place of the type among `Tagging.types`."""

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class RowCounts:
    """What was found in each of N rows."""

    is_plain: bool
    hits_NE: Ints
    """Entities that are right, by type; of plain tags the words."""
    true_NE: Ints
    predicted_NE: Ints
    right_N: Ints
    """Words whose tag is right."""
    words_N: Ints

    def __len__(self) -> int:
        return len(self.words_N)

    def score(self, weights_RN: Floats) -> dict[str, Floats]:
        """Every score, each of shape (R,); `weights_RN` says how often each row stands in each resample.

        Of entities `f1`, `precision` and `recall` over all types, and `accuracy` of words; of plain tags `accuracy`
        and `f1_macro`.
        """
        hits_RE, true_RE, predicted_RE = (weights_RN @ each for each in (self.hits_NE, self.true_NE, self.predicted_NE))
        if self.is_plain:
            counts = (np.rint(each).astype(np.int64) for each in (hits_RE, true_RE, predicted_RE))
            scores = score_counts(*counts)
            return {name: scores[name] for name in ("accuracy", "f1_macro")}
        hits_R, true_R, predicted_R = (each.sum(axis=-1) for each in (hits_RE, true_RE, predicted_RE))
        return {
            "f1": divide(2 * hits_R, true_R + predicted_R),
            "precision": divide(hits_R, predicted_R),
            "recall": divide(hits_R, true_R),
            "accuracy": divide(weights_RN @ self.right_N, weights_RN @ self.words_N),
        }

    def summarise(self) -> dict[str, float]:
        """The scores of the rows as they are."""
        return {name: float(value_R[0]) for name, value_R in self.score(np.ones((1, len(self)))).items()}

    def bootstrap(self, resamples: int, seed: int) -> dict[str, Interval]:
        """95 % intervals of the scores when rows are drawn again: the words of a row stay together."""
        return bootstrap_rows(self.score, len(self), resamples, seed)

    def tabulate(self, types: Sequence[str]) -> list[dict[str, Any]]:
        """`name`, `precision`, `recall`, `f1` and `support` of each type, in their order."""
        hits, true, predicted = (each.sum(axis=0) for each in (self.hits_NE, self.true_NE, self.predicted_NE))
        columns = divide(hits, predicted), divide(hits, true), divide(2 * hits, true + predicted)
        return [
            {"name": name, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(support)}
            for name, p, r, f, support in zip(types, *columns, true, strict=True)
        ]


def mark_firsts(offsets: Ints) -> NDArray[np.bool_]:
    """Which of the words (K,) are the first of their row."""
    firsts_K = np.zeros(int(offsets[-1]), bool)
    starts = offsets[:-1]
    firsts_K[starts[starts < offsets[1:]]] = True
    return firsts_K


def find_entities(tagging: Tagging, tags_K: NDArray[Any], offsets: Ints) -> Entities:
    """The entities that the tags name; of plain tags each word is one.

    Args:
        tags_K: numbers of tags, row after row.
        offsets: where each row begins, and the end, (N + 1,).
    """
    if tagging.is_plain:
        places = np.arange(len(tags_K))
        return Entities(places, places, np.asarray(tags_K, np.int64))
    code_K, type_K = tagging.list_codes()[tags_K], tagging.list_types()[tags_K]
    begins_K = mark_begins(code_K, type_K, mark_firsts(offsets))
    is_inside_K = code_K != _O
    goes_on_K = np.zeros(len(tags_K), bool)
    goes_on_K[:-1] = is_inside_K[1:] & ~begins_K[1:]
    first, last = np.flatnonzero(begins_K), np.flatnonzero(is_inside_K & ~goes_on_K)
    return Entities(first, last, type_K[first])


def mark_begins(code_K: Ints, type_K: Ints, firsts_K: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which words begin an entity, by conlleval's rules; a row's first word stands after O."""
    before_K, type_before_K = look_back(code_K, firsts_K, _O), look_back(type_K, firsts_K, -1)
    opens_K = (code_K == _B) | (code_K == _S)
    follows_end_K = ((code_K == _I) | (code_K == _E)) & np.isin(before_K, (_O, _E, _S))
    changes_K = (code_K != _O) & (type_K != type_before_K)
    return opens_K | follows_end_K | changes_K


def look_back(values_K: Ints, firsts_K: NDArray[np.bool_], at_first: int) -> Ints:
    """The value of the word before; `at_first` for the first word of a row."""
    before_K = np.empty_like(values_K)
    before_K[1:] = values_K[:-1]
    before_K[firsts_K] = at_first
    return before_K


def count_rows(tagging: Tagging, predicted_K: NDArray[Any], true_K: NDArray[Any], offsets: Ints) -> RowCounts:
    """What the predicted tags have right in each row."""
    true, found = find_entities(tagging, true_K, offsets), find_entities(tagging, predicted_K, offsets)
    _, at_true, at_found = np.intersect1d(true.first, found.first, assume_unique=True, return_indices=True)
    is_hit = (true.last[at_true] == found.last[at_found]) & (true.type[at_true] == found.type[at_found])
    width = len(tagging.types)

    def tally(entities: Entities, wanted: Any = slice(None)) -> Ints:
        rows = np.searchsorted(offsets, entities.first[wanted], side="right") - 1
        cells = np.bincount(rows * width + entities.type[wanted], minlength=(len(offsets) - 1) * width)
        return cells.reshape(len(offsets) - 1, width).astype(np.int64)

    right_K = np.concatenate([[0], np.cumsum(np.asarray(predicted_K) == np.asarray(true_K))])
    right_N, words_N = right_K[offsets[1:]] - right_K[offsets[:-1]], np.diff(offsets)
    return RowCounts(tagging.is_plain, tally(true, at_true[is_hit]), tally(true), tally(found), right_N, words_N)


@dataclass(frozen=True)
class SchemeFound:
    """How the tags mark where entities begin."""

    scheme: Scheme
    loose_K: NDArray[np.bool_]
    """Words with an I (or E) that no B of their type stands before, where the scheme asks for one."""


def find_scheme(tagging: Tagging, tags_K: NDArray[Any], offsets: Ints) -> SchemeFound:
    """The scheme that the tags follow: by their prefixes, and IOB1 from IOB2 (BIO) by where B stands."""
    none_K = np.zeros(len(tags_K), bool)
    if tagging.is_plain:
        return SchemeFound("plain", none_K)
    prefixes = {name[0] for name in tagging.names}
    firsts_K, code_K, type_K = mark_firsts(offsets), tagging.list_codes()[tags_K], tagging.list_types()[tags_K]
    is_new_K = (look_back(type_K, firsts_K, -1) != type_K) | np.isin(look_back(code_K, firsts_K, _O), (_O, _E, _S))
    loose_K = is_new_K & np.isin(code_K, (_I, _E))
    if prefixes & {"E", "S", "L", "U"}:
        return SchemeFound("BILOU" if prefixes & {"L", "U"} else "BIOES", loose_K)
    # In IOB1 a B stands only where an entity follows another one of its type without a word between them.
    if loose_K.any() and not (is_new_K & (code_K == _B)).any():
        return SchemeFound("IOB1", none_K)
    return SchemeFound("BIO", loose_K)
