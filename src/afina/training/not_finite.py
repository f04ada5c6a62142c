"""What is not a number never reaches the weights: the step is skipped, its rows are named, and too many end the run.

The weights and the moments stay as they were, the number of the step goes on, and with it the learning rate and the
order of the rows: a run that is killed and resumed skips the same steps.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from afina.data.batches import Indices
from afina.errors import TrainingError, describe_rows
from afina.training.events import Incident, notify
from afina.training.gradients import Gradient, cut_passes, read_gradient
from afina.training.seed import seed_torch
from afina.training.session import Session

# Forward and backward passes that naming the rows may take; what is left then is named as a whole.
MOST_PASSES = 128


def is_finite(gradient: Gradient) -> bool:
    """Whether the weights may be moved by it."""
    return math.isfinite(gradient.loss) and math.isfinite(gradient.norm)


def skip_step(session: Session, window: Sequence[Indices], gradient: Gradient) -> None:
    """Drop the gradient, and say which rows it came from.

    Raises:
        TrainingError: if more steps were skipped than the settings allow; the last checkpoint stays.
    """
    progress = session.progress
    session.optimizer.zero_grad(set_to_none=True)
    what = "gradient" if math.isfinite(gradient.loss) else "loss"
    rows = name_rows(session, find_culprits(session, window) or list(window))
    step = progress.step + 1
    values = {"step": step, "what": what, "rows": rows}
    progress.skipped_steps.append(values)
    text = f"step {step} is skipped: its {what} is not a finite number; training {describe_rows(rows)}"
    notify(session.callbacks, "on_incident", step, Incident("skipped_step", text, values))
    if len(progress.skipped_steps) > session.config.max_skipped_steps:
        raise make_skip_error(session, what)


def find_culprits(session: Session, window: Sequence[Indices]) -> list[Indices]:
    """The rows that give no finite number by themselves; none if it takes several of them together.

    Halves of a batch are tried until single rows are left, so that one row of 16 costs nine small passes.
    """
    queue, culprits = deque(cut_passes(session, window)), []
    for _ in range(MOST_PASSES):
        if not queue:
            break
        rows = queue.popleft()
        if is_finite(measure_rows(session, rows)):
            continue
        if len(rows) == 1:
            culprits.append(rows)
        else:
            queue.extend(np.array_split(rows, 2))
    return culprits + (list(queue) if culprits else [])


def measure_rows(session: Session, rows: Indices) -> Gradient:
    """Loss and gradient of some rows; the parameters hold no gradient afterwards."""
    seed_torch(session.seed, "step", session.progress.step)
    loss = session.objective.sum_losses(session.model, rows, session.accelerator)
    session.accelerator.backward(loss)
    found = read_gradient(session, loss)
    session.optimizer.zero_grad(set_to_none=True)
    return found


def name_rows(session: Session, batches: Sequence[Indices]) -> list[int]:
    """Numbers of these rows in the user's file, in their order."""
    return sorted({number for rows in batches for number in session.objective.name_rows(rows)})


def make_skip_error(session: Session, what: str) -> TrainingError:
    """The error for a run with too many skipped steps: where it is kept, and what to change."""
    skipped = session.progress.skipped_steps
    rows = sorted({number for each in skipped for number in each["rows"]})
    newest = max((path.name for path in session.store.list_folders()), default=None)
    kept = f"; the last good checkpoint is {newest}" if newest else ""
    folder = session.store.folder.parent
    return TrainingError(
        f"the {what} is not a finite number at step {session.progress.step + 1}, and too many steps were skipped",
        found=f"{len(skipped)} of them, by training {describe_rows(rows)}{kept}",
        expected=f"at most {session.config.max_skipped_steps} (training.max_skipped_steps)",
        remedy=f"look at these rows; then afina train --config {folder}/config.yaml --output NEW with a smaller"
        f" --learning-rate than {session.learning_rate:.2g} or --set training.precision=fp32",
    )
