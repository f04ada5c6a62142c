"""The proof at the end of every run: what was saved, loaded afresh, is what was trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from afina.data.encode import TokenArrays
from afina.errors import ProofError
from afina.pipeline.learn import Learned
from afina.pipeline.prepare import Prepared
from afina.training.inference import predict_logits

ROWS = 32
# Relative to the largest logit. Batches of other rows round otherwise, in bf16 far more than in fp32.
TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}


def prove_saved_model(prepared: Prepared, learned: Learned) -> dict[str, Any]:
    """`rows`, `largest_difference` and `tolerance` between the run's own logits and those of the saved folder.

    Raises:
        ProofError: if they differ; the folder stays for a look.
    """
    tokens = take_rows(prepared.parts["test"].tokens, ROWS)
    wanted_NC = learned.logits["test"][:ROWS]
    model = prepared.technique.restore(prepared.folder.model, prepared.setup).to(prepared.device)
    found_NC = predict_logits(
        model, tokens, pad_id=prepared.pad_id, tokens_per_batch=int(prepared.config.evaluation.eval_tokens_per_batch),
        device=prepared.device, precision=prepared.setup.precision,
    )  # fmt: skip
    difference = float(np.abs(found_NC - wanted_NC).max())
    tolerance = TOLERANCE[prepared.setup.precision] * max(1.0, float(np.abs(wanted_NC).max()))
    if not difference <= tolerance:
        raise ProofError(
            "the saved model, loaded afresh, doesn't give the logits of the trained one",
            found=f"a largest difference of {difference:.3g} over {len(tokens)} rows",
            expected=f"at most {tolerance:.3g}",
            remedy=f"{prepared.folder.path} keeps everything; please report this with its config.yaml",
        )
    return {"rows": len(tokens), "largest_difference": difference, "tolerance": tolerance}


def take_rows(tokens: TokenArrays, count: int) -> TokenArrays:
    """The first rows of some token arrays."""
    return TokenArrays(tokens.ids, tokens.offsets[: count + 1], tokens.type_ids, 0, 0)
