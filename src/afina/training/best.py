"""The weights of the best evaluation, or where its checkpoint is lost, of the next best that is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from afina.techniques.base import iterate_trainable
from afina.training.checkpoint import restore_weights

if TYPE_CHECKING:
    from afina.training.session import Session


def restore_best(session: Session) -> None:
    """Put the weights of the best evaluation into the model.

    Its checkpoint may have been damaged since, or have met a full disk. Then all that is left, and the model as it
    stands, are measured once more; the best of them is taken, which is said.
    """
    progress, store = session.progress, session.store
    wanted = progress.best_step or 0
    best = store.find_step(wanted)
    if best is not None:
        restore_weights(best, session.model)
        return
    stands = {name: parameter.detach().clone() for name, parameter in iterate_trainable(session.model)}
    ranks = {progress.step: measure(session)}
    others = {each.state["step"]: each for each in store.find_whole() if each.state["step"] != progress.step}
    for step, checkpoint in others.items():
        restore_weights(checkpoint, session.model)
        ranks[step] = measure(session)
    taken = max(ranks, key=lambda step: ranks[step])
    if taken in others:
        restore_weights(others[taken], session.model)
    else:
        with torch.no_grad():
            for name, parameter in iterate_trainable(session.model):
                parameter.copy_(stands[name])
    progress.best_step, (progress.best_rank, less_loss) = taken, ranks[taken]
    progress.best_loss = -less_loss
    store.say(
        f"the best checkpoint, of step {wanted}, is damaged or was never written; the result is step {taken}, the best"
        f" of the {len(ranks)} that are left (validation loss {progress.best_loss:.4f})"
    )


def measure(session: Session) -> tuple[float, float]:
    """Main score and negative loss of the model as it stands: what the best evaluation is chosen by."""
    scores = session.objective.evaluate(session.model, session.accelerator)
    return session.objective.rank(scores), -scores["loss"]
