"""Rows that read almost like another one: within the training part, and on both sides of a split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from afina.data.doctor.check import Check
from afina.data.doctor.finding import Example, Finding, name_part, name_row, shorten, show_share
from afina.data.doctor.minhash import compare, join_bands, sign_texts, split_shingles
from afina.data.doctor.subject import Batch, Subject, View, find_repeats
from afina.data.scripts import count_words
from afina.data.split import Ints
from afina.wording import count

WORDS_LEAST = 8
"""Shorter texts are alike by chance: one word in five changes what is asked."""
SIMILARITY = 0.8
ROWS_COMPARED = 200_000
"""Rows that are signed at most, in all parts together: 50 MB."""
PAIRS_AT_ONCE = 10_000
EXAMPLES = 2
CHARACTERS = 70


@dataclass
class Signed:
    """The rows of a part that are compared."""

    places: list[int] = field(default_factory=list)
    """Places among the part's usable rows."""
    bands: list[np.ndarray] = field(default_factory=list)

    def stack(self) -> tuple[Ints, np.ndarray]:
        """Places (M,) and bands (M, B)."""
        empty = join_bands(sign_texts(()))
        return np.array(self.places, np.int64), np.concatenate([empty, *self.bands])


class NearRepeats(Check):
    """Almost the same text again."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.signed = {name: Signed() for name in subject.views}
        self.is_chosen = choose_rows(subject)
        self.total = sum(int(chosen.sum()) for chosen in self.is_chosen.values())

    def look(self, batch: Batch) -> None:
        chosen_N = self.is_chosen[batch.part][batch.start : batch.start + len(batch.texts)]
        places = [i for i in np.flatnonzero(chosen_N).tolist() if count_words(batch.texts[i]) >= WORDS_LEAST]
        signed = self.signed[batch.part]
        signed.places += [batch.start + i for i in places]
        signed.bands.append(join_bands(sign_texts([batch.texts[i] for i in places])))

    def findings(self) -> Iterator[Finding]:
        training = self.subject.training
        places_M, bands_MB = self.signed[training.name].stack()
        for later in self.subject.held_out:
            later_places, later_bands = self.signed[later.name].stack()
            pairs = find_alike(later, later_places, later_bands, training, places_M, bands_MB)
            if len(pairs):
                yield self._describe_leak(training, later, pairs)
        pairs = find_alike(training, places_M, bands_MB, training, places_M, bands_MB)
        if len(pairs):
            yield self._describe_repeats(training, pairs)

    @property
    def sample(self) -> str:
        """What is said where not all rows were compared."""
        distinct = sum(int((~find_repeats(view.inputs)).sum()) for view in self.subject.views.values())
        return f" (of a sample of {count(self.total, 'row')})" if self.total < distinct else ""

    def _describe_leak(self, training: View, later: View, pairs: Ints) -> Finding:
        share = len(pairs) / len(later)
        return Finding(
            "near-leaks",
            "warning" if share >= 0.01 else "hint",
            f"{count(len(pairs), 'row')} of {name_part(later.name)} ({show_share(share)}) almost like one of"
            f" {name_part(training.name)}{self.sample}",
            "a model that remembers the other one is right without having understood",
            "keep such rows on one side, or read the figures with this in mind",
            len(pairs),
            {later.name: later.number_rows(pairs[:, 0])},
            show_pairs(later, training, pairs),
        )

    def _describe_repeats(self, training: View, pairs: Ints) -> Finding:
        differ = int((training.targets[pairs[:, 0]] != training.targets[pairs[:, 1]]).sum())
        others = f", {differ:,} of them with another label" if differ and self.subject.names else ""
        share = len(pairs) / len(training)
        return Finding(
            "near-duplicates",
            "warning" if share >= 0.1 else "hint",
            f"{count(len(pairs), 'row')} of {name_part(training.name)} ({show_share(share)}) almost like an earlier"
            f" one{others}{self.sample}",
            "what stands almost twice weighs almost twice; with another label one of the two is wrong",
            "look at them, and keep one of each kind",
            len(pairs),
            {training.name: training.number_rows(pairs[:, 0])},
            show_pairs(training, training, pairs),
        )


def choose_rows(subject: Subject) -> dict[str, np.ndarray]:
    """Which rows of each part (N,) are compared: the first of those that read the same, or a share of these.

    Their hashes choose, so that any part of the data gives the same rows; held-out parts are cut last.
    """
    chosen, left = {}, ROWS_COMPARED
    for view in reversed(list(subject.views.values())):
        is_first = ~find_repeats(view.inputs)
        distinct = int(is_first.sum())
        quota = left if view is subject.training else left // 2
        if distinct > quota:
            limit = np.uint64(quota / distinct * (2**64 - 1))
            is_first &= view.inputs.view(np.uint64) <= limit
        left -= int(is_first.sum())
        chosen[view.name] = is_first
    return chosen


def find_alike(
    later: View, later_places: Ints, later_bands: np.ndarray, earlier: View, places: Ints, bands: np.ndarray
) -> Ints:
    """Pairs (P, 2) of places: a row of `later`, and one of `earlier` that it is like; each row of `later` once.

    Rows that read the same are left to other checks. Within one part it is the first row of a band that others are
    compared with.
    """
    found: dict[int, int] = {}
    for band in range(bands.shape[1]):
        keys, first = np.unique(bands[:, band], return_index=True)
        open_M = np.array([i for i, place in enumerate(later_places.tolist()) if place not in found], np.int64)
        if not len(keys) or not len(open_M):
            break
        at = np.searchsorted(keys, later_bands[open_M, band]).clip(max=len(keys) - 1)
        is_hit = keys[at] == later_bands[open_M, band]
        pairs = np.stack([later_places[open_M[is_hit]], places[first[at[is_hit]]]], axis=1)
        if later is earlier:
            pairs = pairs[pairs[:, 0] > pairs[:, 1]]
        pairs = pairs[later.inputs[pairs[:, 0]] != earlier.inputs[pairs[:, 1]]]
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            found |= keep_alike(later, earlier, pairs[start : start + PAIRS_AT_ONCE])
    return np.array(sorted(found.items()), np.int64).reshape(-1, 2)


def keep_alike(later: View, earlier: View, pairs: Ints) -> dict[int, int]:
    """The pairs whose texts are as alike as `SIMILARITY` asks."""
    texts = zip(later.texts(pairs[:, 0]), earlier.texts(pairs[:, 1]), strict=True)
    return {
        first: second
        for (first, second), (text, other) in zip(pairs.tolist(), texts, strict=True)
        if compare(split_shingles(text), split_shingles(other)) >= SIMILARITY
    }


def show_pairs(later: View, earlier: View, pairs: Ints) -> tuple[Example, ...]:
    """The first pairs, each row with the one that it is like."""
    shown = pairs[:EXAMPLES]
    texts = zip(later.texts(shown[:, 0]), earlier.texts(shown[:, 1]), strict=True)
    examples = []
    for (place, other), (text, twin) in zip(shown.tolist(), texts, strict=True):
        where = name_row(earlier.name, int(earlier.numbers[other]))
        both = f"{shorten(text)[:CHARACTERS]} ≈ {where}: {shorten(twin)[:CHARACTERS]}"
        examples.append(Example(later.name, int(later.numbers[place]), both))
    return tuple(examples)
