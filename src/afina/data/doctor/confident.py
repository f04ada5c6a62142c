"""Labels that are probably wrong, by confident learning.

A row is trusted to belong to class j when its probability of j is at least the mean of that probability over the
rows that are labelled j. Rows that are labelled i and trusted to belong to j != i are off the diagonal of the
confident joint, and those are the ones to look at, unless i is still the likeliest: a class of few rows has a low
threshold, which a row may pass by chance. Probabilities must be those of models that didn't see the row.

Where a row has several labels at once, each of them is a question of its own with the answers yes and no.

Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, 2021, section 3.1.
Letters: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
FIELDS = ("places", "better", "margins")


@dataclass(frozen=True)
class Suspects:
    """Rows whose label another class fits better, the surest first (S,)."""

    places: Ints
    better: Ints
    """The class that fits better; of rows with several labels at once the one that is missing or too many."""
    margins: npt.NDArray[np.float64]
    """By how much its probability is above that of what the row is given."""

    def surer_than(self, margin: float) -> Suspects:
        """Those whose other class fits better by that much at least."""
        kept = int((self.margins >= margin).sum())
        return Suspects(self.places[:kept], self.better[:kept], self.margins[:kept])


def find_suspects(probabilities_NC: npt.NDArray[np.floating], labels_N: Ints) -> Suspects:
    """The rows off the diagonal of the confident joint whose label isn't the likeliest class.

    Args:
        probabilities_NC: of each class, by models that didn't see the row.
        labels_N: the classes that the rows are given.
    """
    rows, classes = probabilities_NC.shape
    own_N = probabilities_NC[np.arange(rows), labels_N].astype(np.float64)
    counts_C = np.bincount(labels_N, minlength=classes)
    sums_C = np.bincount(labels_N, weights=own_N, minlength=classes)
    # Nothing is trusted to belong to a class without rows.
    thresholds_C = np.divide(sums_C, counts_C, out=np.full(classes, np.inf), where=counts_C > 0)
    trusted_NC = np.where(probabilities_NC >= thresholds_C, probabilities_NC, -np.inf)
    better_N = trusted_NC.argmax(axis=1)
    is_trusted_N = np.isfinite(trusted_NC.max(axis=1)) & (better_N != labels_N)
    is_suspect_N = is_trusted_N & (probabilities_NC.argmax(axis=1) != labels_N)
    places = np.flatnonzero(is_suspect_N)
    margins = probabilities_NC[places, better_N[places]].astype(np.float64) - own_N[places]
    order = np.argsort(-margins, kind="stable")
    return Suspects(places[order], better_N[places[order]], margins[order])


def find_suspect_marks(probabilities_NC: npt.NDArray[np.floating], marks_NC: npt.NDArray[np.uint8]) -> Suspects:
    """The same where a row has several labels at once; a row is named once, for what is surest of it.

    Args:
        probabilities_NC: of having each label, by models that didn't see the row.
        marks_NC: 1 for the labels that a row is given, else 0.
    """
    found = []
    for label, (probability_N, marks_N) in enumerate(zip(probabilities_NC.T, marks_NC.T, strict=True)):
        pair_N2 = np.stack([1 - probability_N, probability_N], axis=1)
        each = find_suspects(pair_N2, marks_N.astype(np.int64))
        found.append(Suspects(each.places, np.full(len(each.places), label), each.margins))
    places, labels, margins = (np.concatenate([getattr(each, name) for each in found]) for name in FIELDS)
    order = np.argsort(-margins, kind="stable")
    surest = order[np.sort(np.unique(places[order], return_index=True)[1])]
    return Suspects(places[surest], labels[surest], margins[surest])
