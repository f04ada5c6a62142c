"""Successive halving: of the trials that reached 1, 2, 4, 8 epochs, the better half goes on.

Jamieson and Talwalkar 2016 (arXiv 1502.07943); asynchronous, Li et al. 2020 (arXiv 1810.05934). Validation parts are
small and their scores noisy, so half is kept and not a third or a quarter.

Optuna's pruner follows the same rule but notes that it was asked, and the answer to the same question is another one
then: a trial that was killed between the question and its end would go on where it should end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

KEPT_OF = 2


def is_rung(epoch: int) -> bool:
    """Whether trials are compared after so many epochs."""
    return epoch > 0 and epoch & (epoch - 1) == 0


def is_in_worse_half(score: float, others: Iterable[float], is_larger_better: bool) -> bool:
    """Whether a score is none of the better half of all, its own among them; a score that is no number always is.

    Args:
        others: scores of other trials after as many epochs.
    """
    if math.isnan(score):
        return True
    known = sorted([score, *(each for each in others if not math.isnan(each))], reverse=is_larger_better)
    last_kept = known[max(1, len(known) // KEPT_OF) - 1]
    return score < last_kept if is_larger_better else score > last_kept
