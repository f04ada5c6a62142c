"""The proof at the end of every run: what was saved, loaded afresh, is what was trained and what was scored.

Letters: N rows, C outputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from afina.data.encode_words import TaggedTokens
from afina.data.encoded import EncodedPart
from afina.errors import ProofError
from afina.models.heads import find_head
from afina.pipeline.learned import Learned
from afina.pipeline.logits import compute_logits
from afina.pipeline.prepare import Prepared
from afina.tasks.base import Floats

ROWS = 32
# Of long rows fewer, so that the proof takes no longer than a large batch; of short ones all.
TOKENS, FEWEST_ROWS = 2048, 4
# All relative to the largest logit. The trained and the saved model take the same batch, so they differ by nothing but
# the order of a sum; a weight that was stored in bf16 by mistake moves logits ten times as far.
SAVED_TOLERANCE = {"fp32": 1e-5, "bf16": 1e-4}
# Scores come from other batches, or from cached features, and these round otherwise. In bf16 a head with large weights
# makes much of it: what is caught there is the wrong head, pooling or order of rows, which moves logits by their size.
SCORED_TOLERANCE = {"fp32": 1e-4, "bf16": 0.25}


def prove_saved_model(prepared: Prepared, learned: Learned) -> dict[str, float]:
    """`rows`, and two differences with their tolerances: `largest_difference` between the trained model and the saved
    folder on the same batch, `scored_difference` between that folder and the logits that the scores come from.

    Raises:
        ProofError: if one is too large; the folder stays for a look.
    """
    part = prepared.parts[prepared.scored]
    rows = count_rows(part)
    tokens = part.words.take_rows(rows) if isinstance(part, TaggedTokens) else part.tokens.take(np.arange(rows))
    trained_NC = compute_logits(prepared, learned.model, tokens)
    saved = prepared.technique.restore(prepared.folder.model, prepared.setup)
    saved_NC = compute_logits(prepared, saved, tokens)
    precision = prepared.setup.precision
    difference, tolerance = compare_logits(
        "the saved model, loaded afresh, doesn't give the logits of the trained one",
        trained_NC, saved_NC, SAVED_TOLERANCE[precision], prepared.folder.path,
    )  # fmt: skip
    scored_difference, scored_tolerance = compare_logits(
        "the saved model, loaded afresh, doesn't give the logits that the scores come from",
        learned.logits[prepared.scored][: len(saved_NC)], saved_NC, SCORED_TOLERANCE[precision], prepared.folder.path,
        magnitude=measure_head(learned.model, precision),
    )  # fmt: skip
    return {
        "rows": rows,
        "largest_difference": difference,
        "tolerance": tolerance,
        "scored_difference": scored_difference,
        "scored_tolerance": scored_tolerance,
    }


def count_rows(part: EncodedPart) -> int:
    """How many of a part's first rows are compared."""
    within = int(np.searchsorted(np.cumsum(part.tokens.lengths[:ROWS]), TOKENS, side="right"))
    return min(len(part.row_numbers), max(within, FEWEST_ROWS))


def measure_head(model: Any, precision: str) -> float:
    """The largest number in the model's last layer; 1 in bf16, whose tolerance would then let a wrong head pass.

    A head that was solved on features which are nearly alike has large weights whose terms nearly cancel out: rounding
    moves its logits by as much as it moves the terms.
    """
    if precision != "fp32":
        return 1.0
    head = find_head(model)
    return max(float(each.detach().abs().max()) for each in (head.weight, head.bias) if each is not None)


def compare_logits(
    what: str, wanted_NC: Floats, found_NC: Floats, relative: float, folder: Path, unit: str = "rows",
    magnitude: float = 1.0,
) -> tuple[float, float]:  # fmt: skip
    """The largest difference and what is allowed: `relative` times the largest logit, or times `magnitude`.

    Args:
        folder: of the run.
        unit: what N counts.
        magnitude: of the terms that logits are sums of, as far as it is known.

    Raises:
        ProofError: if it is larger, or not a number.
    """
    difference = float(np.abs(found_NC - wanted_NC).max())
    tolerance = relative * max(1.0, magnitude, float(np.abs(wanted_NC).max()))
    if not difference <= tolerance:
        raise ProofError(
            what,
            found=f"a largest difference of {difference:.3g} over {len(wanted_NC)} {unit}",
            expected=f"at most {tolerance:.3g}",
            remedy=f"{folder} keeps everything; please report this with its config.yaml",
        )
    return difference, tolerance
