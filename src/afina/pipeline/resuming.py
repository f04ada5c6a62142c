"""Where a run goes on: its newest whole checkpoint, and what is said of those that were passed over."""

from __future__ import annotations

from dataclasses import dataclass

from afina.config.run import TrainingConfig
from afina.pipeline.narrator import Narrator
from afina.runs.folder import RunFolder
from afina.training.checkpoint import Checkpoint, CheckpointStore
from afina.training.session import find_wrong_progress


@dataclass(frozen=True)
class Saved:
    """What a run has on disk to go on from."""

    store: CheckpointStore
    checkpoint: Checkpoint | None
    """The newest whole one; None at the start, and where none is whole."""


def find_saved(folder: RunFolder, training: TrainingConfig, narrator: Narrator) -> Saved:
    """The checkpoints of a run, and the one to go on from."""
    store = open_store(folder, training, narrator)
    return Saved(store, find_checkpoint(store, narrator))


def open_store(folder: RunFolder, training: TrainingConfig, narrator: Narrator) -> CheckpointStore:
    """The checkpoints of a run."""
    return CheckpointStore(folder.checkpoints, training.save_total_limit, find_wrong_progress, narrator.note)


def find_checkpoint(store: CheckpointStore, narrator: Narrator) -> Checkpoint | None:
    """The checkpoint to go on from; None at the start, and where none is whole."""
    checkpoint, damaged = store.find_newest()
    for folder, damage in damaged.items():
        narrator.note(f"the checkpoint {folder.name} is damaged and was passed over: {damage}")
    if damaged and checkpoint is None:
        narrator.note("none of the checkpoints is whole, so the training begins again")
    return checkpoint
