"""The head of a model that learned by pairs, at the end: as sure as held-out rows say, and solved with all rows.

A head solved on rows that moved the backbone is too sure of itself: their classes stand further apart than those of
other rows do. The validation rows say by how much, before it is solved once more with them.
"""

from __future__ import annotations

from accelerate import Accelerator
from torch import nn

from afina.config.reason import Reason
from afina.metrics.temperature import find_temperature, measure_likelihood_loss
from afina.models.heads import find_head, scale_head
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import Prepared
from afina.pipeline.solving import WHY_BOTH, may_learn_from_validation
from afina.tasks.base import Floats
from afina.training.contrastive import ContrastiveRows
from afina.training.objective import Objective

BOTH = ("train", "validation")


def settle_head(
    prepared: Prepared, objective: Objective, model: nn.Module, accelerator: Accelerator, logits: dict[str, Floats],
    narrator: Narrator,
) -> tuple[str, ...]:  # fmt: skip
    """Solve the head once more with the validation rows, where it may be, and soften it; gives the parts that the head
    was learned from.

    Nothing is done for other objectives, nor softened where the validation rows are what the result is judged by.

    Args:
        logits: of the validation rows, by the head that was solved without them; softened in place.
    """
    if not isinstance(objective, ContrastiveRows):
        return ("train",)
    temperature = choose_temperature(prepared, objective, logits["validation"], narrator)
    logits["validation"] = logits["validation"] / temperature
    parts: tuple[str, ...] = ("train",)
    if may_learn_from_validation(prepared):
        parts = BOTH
        objective.solve_head(model, accelerator, *(prepared.parts[name] for name in parts))
        narrator.explain(Reason("rows of the head", " + ".join(parts), WHY_BOTH))
    scale_head(find_head(model), 1 / temperature, 0.0)
    return parts


def choose_temperature(prepared: Prepared, objective: ContrastiveRows, logits_NC: Floats, narrator: Narrator) -> float:
    """What the head's logits are divided by: 1 where that is best, or no other rows would judge it."""
    if prepared.scored == "validation":
        return 1.0
    labels_N = prepared.parts["validation"].labels
    weights_N = prepared.task.row_weights(labels_N, objective.labelled.state)
    temperature = find_temperature(logits_NC, labels_N, weights_N)
    if temperature > 1:
        before, after = (measure_likelihood_loss(logits_NC, labels_N, weights_N, at) for at in (1.0, temperature))
        narrator.explain(Reason("temperature", round(temperature, 3), (
            f"the head was too sure of rows that moved nothing: its logits are divided by it, so the loss of the"
            f" {len(labels_N):,} validation rows is {after:.3f} instead of {before:.3f}; no prediction changes"
        )))  # fmt: skip
    return temperature
