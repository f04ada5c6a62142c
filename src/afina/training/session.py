"""All that a training needs, and where it stands: what a checkpoint keeps and a resumed run goes on from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from accelerate import Accelerator
from pydantic import Field, TypeAdapter, ValidationError
from torch import nn

from afina.config.run import TrainingConfig
from afina.errors import Interrupted, RunFolderError, TrainingError
from afina.training.checkpoint import Checkpoint, CheckpointStore, restore_moments, restore_weights
from afina.training.events import Callback, notify
from afina.training.halves import Halves
from afina.training.memory_guard import MemoryGuard
from afina.training.objective import Objective
from afina.training.optim import AdamW
from afina.training.signals import StopSignals

# Evaluations without a better score that training bears at the least.
LEAST_PATIENCE = 3
Count = Annotated[int, Field(ge=0, lt=2**63)]


@dataclass
class Progress:
    """Where a run stands; with the weights and the moments it is all that a checkpoint needs."""

    step: Count = 0
    """Optimizer steps done, skipped ones among them."""
    epoch: Count = 0
    """Epochs done."""
    window: Count = 0
    """Optimizer steps done within the epoch."""
    best_rank: float | None = None
    """Best main score of the validation part so far, the larger the better."""
    best_loss: float | None = None
    """Validation loss of that evaluation."""
    best_step: Count | None = None
    """The step it was measured at."""
    trained_rank: float | None = None
    """Best main score after the first step, for a start that is better than all that comes."""
    trained_loss: float | None = None
    """Validation loss of that evaluation."""
    evaluated_step: Count | None = None
    """The step of the last evaluation."""
    worse_evaluations: Count = 0
    """Evaluations since the best one, or since the best one after the first step."""
    skipped_steps: list[dict[str, Any]] = field(default_factory=list)
    """Steps whose loss or gradient wasn't a number: `step`, `what`, `rows`. See `training/not_finite.py`."""
    spikes: list[dict[str, Any]] = field(default_factory=list)
    """Sudden rises of the loss or of the gradient: `step`, `what`, `value`, `usual`. See `training/spikes.py`."""
    recent: dict[str, list[float]] = field(default_factory=dict)
    """The last values of what is watched for spikes."""
    rows_per_pass: Annotated[int, Field(ge=1)] | None = None
    """Rows of one forward and backward pass, where memory allowed fewer than the settings ask for."""
    smaller_passes: list[dict[str, Any]] = field(default_factory=list)
    """When that was lowered: `step`, `rows_per_pass`, `why`. See `training/gradients.py`."""


_PROGRESS = TypeAdapter(Progress)


def find_wrong_progress(state: Mapping[str, Any]) -> str:
    """What of a checkpoint's state is not what a run writes; an empty string if all of it is."""
    names = Progress.__dataclass_fields__.keys()
    if missing := sorted(names - state.keys()):
        return f"no {', '.join(missing)}"
    if unknown := sorted(state.keys() - names):
        return f"an unknown {', '.join(unknown)}"
    try:
        found = _PROGRESS.validate_json(json.dumps(state), strict=True)  # strictly, a mapping in Python is no dataclass
    except ValidationError as error:
        first = error.errors()[0]
        return f"an odd {'.'.join(str(part) for part in first['loc'])} ({first['msg']})"
    incidents = [*found.skipped_steps, *found.spikes, *found.smaller_passes]
    if not all(isinstance(each.get("step"), int) for each in incidents):
        return "an incident without its step"
    if not all("what" in each for each in found.spikes):
        return "a spike of nothing"
    rows = [each.get("rows") for each in found.skipped_steps]
    are_numbers = all(isinstance(each, list) and all(isinstance(row, int) for row in each) for each in rows)
    return "" if are_numbers else "a skipped step without its rows"


@dataclass(kw_only=True)
class Session:
    """Everything that a training needs, in one place."""

    model: nn.Module
    optimizer: AdamW
    accelerator: Accelerator
    objective: Objective
    config: TrainingConfig
    learning_rate: float
    epochs: int
    seed: int
    store: CheckpointStore
    signals: StopSignals
    memory: MemoryGuard
    halves: Halves | None = None
    """How large batches are halved; None where they aren't."""
    evaluates_start: bool = False
    """Whether the model before the first step is a result of its own: training may make it worse."""
    callbacks: Sequence[Callback] = ()
    progress: Progress = field(default_factory=Progress)
    saved_at: float = field(default_factory=time.monotonic)
    """When the newest checkpoint was written, or the session began, by the clock that never jumps."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the training part."""
        batches = -(-len(self.objective.lengths) // self.config.per_device_train_batch_size)
        return -(-batches // self.config.gradient_accumulation_steps)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training, if nothing stops it early."""
        return self.config.max_steps or self.steps_per_epoch * self.epochs

    @property
    def last_epoch(self) -> int:
        """The epoch that the last step belongs to, from 1."""
        return -(-self.total_steps // self.steps_per_epoch)

    @property
    def is_evaluation_due(self) -> bool:
        """Whether an evaluation is wanted before the next step of the epoch."""
        every, step = self.config.eval_steps, self.progress.step
        return every > 0 and step > 0 and step % every == 0 and step != self.progress.evaluated_step

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the validation score has not improved for as long as the settings allow."""
        wanted = self.config.early_stopping_patience
        patience = max(LEAST_PATIENCE, -(-self.count_evaluations() // 2)) if wanted == "auto" else wanted
        return patience > 0 and self.progress.worse_evaluations >= patience

    def count_evaluations(self) -> int:
        """How many evaluations the whole run makes: one after each epoch, and those within."""
        every, an_epoch = self.config.eval_steps, self.steps_per_epoch
        if not every:
            return self.last_epoch
        last = self.total_steps - 1
        return self.last_epoch + last // every - last // math.lcm(every, an_epoch)

    @property
    def is_save_due(self) -> bool:
        """Whether a checkpoint is wanted between two evaluations: after so many steps, or so much time."""
        config = self.config
        by_steps = config.save_steps > 0 and self.progress.step % config.save_steps == 0
        minutes = (time.monotonic() - self.saved_at) / 60
        return by_steps or 0 < config.save_every_minutes <= minutes


def start_accelerator(device: str, precision: str) -> Accelerator:
    """accelerate's handle on the device; its state is one for the whole process, so an earlier run's is let go first.

    Raises:
        TrainingError: under a launcher of several processes, which this loop doesn't share its rows among.
    """
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="bf16" if precision == "bf16" else "no")
    if accelerator.num_processes > 1:
        raise TrainingError("afina trains in one process", found=f"{accelerator.num_processes} processes")
    return accelerator


def save_checkpoint(session: Session) -> None:
    """Write where the run stands; on a full disk the run goes on without."""
    notify(session.callbacks, "on_checkpoint_begin", session.progress.step)
    folder = session.store.try_save(session.model, session.optimizer, asdict(session.progress))
    session.saved_at = time.monotonic()  # also where it failed: the next one is due as late as any other
    if folder:
        notify(session.callbacks, "on_checkpoint", session.progress.step, str(folder))


def resume_from(session: Session, checkpoint: Checkpoint) -> None:
    """Put the session where the checkpoint was taken.

    Raises:
        RunFolderError: if it is of another model or of another training.
    """
    progress = Progress(**checkpoint.state)
    check_place(session, progress, checkpoint)
    restore_weights(checkpoint, session.model)
    restore_moments(checkpoint, session.model, session.optimizer)
    session.progress = progress


def check_place(session: Session, progress: Progress, checkpoint: Checkpoint) -> None:
    """Refuse a place that this training never comes by.

    Raises:
        RunFolderError: with both numbers of steps.
    """
    steps = progress.epoch * session.steps_per_epoch + progress.window
    steps = min(steps, session.total_steps)  # which may end within the last epoch
    if progress.step != steps or progress.epoch > session.last_epoch:
        raise RunFolderError(
            f"the checkpoint {checkpoint.folder} is of another training",
            found=f"step {progress.step:,} after {progress.epoch:,} epochs and {progress.window:,} steps",
            expected=f"{session.steps_per_epoch:,} steps an epoch, {session.total_steps:,} in all",
            remedy=f"remove {checkpoint.folder}; the run then goes on from an older one, or begins again",
        )


def stop_if_asked(session: Session) -> None:
    """Save and leave if a signal has come. A step that is half done is taken anew when the run goes on."""
    if session.signals.received is None:
        return
    save_checkpoint(session)
    found = f"this step couldn't be saved; {session.store.describe_newest()}" if session.store.is_failing else ""
    raise Interrupted(session.signals.exit_code, session.store.folder.parent, found=found)
