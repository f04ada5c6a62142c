"""Labels that are probably wrong, by confident learning.

A row is trusted to belong to class j when its probability of j is at least the mean of that probability over the
rows that are labelled j. Rows that are labelled i and trusted to belong to j != i are off the diagonal of the
confident joint, and those are the ones to look at, unless i is still the likeliest: a class of few rows has a low
threshold, which a row may pass by chance. Probabilities must be those of models that didn't see the row.

Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, 2021, section 3.1.
Letters: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Suspects:
    """Rows whose label another class fits better, the surest first (S,)."""

    places: Ints
    better: Ints
    """The class that fits better."""
    margins: npt.NDArray[np.float64]
    """Its probability less that of the label."""

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
