"""Checkpoints: one file of a good one is the input, with a manifest that verifies unless it is the input itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from target import Target

STEP = 3
STEPS_PER_EPOCH = 2


def open_session(folder: Path) -> Any:
    """A session over a model of a few weights, two steps of one row an epoch."""
    import numpy as np
    import torch

    from afina.config.run import TrainingConfig
    from afina.training.checkpoint import CheckpointStore
    from afina.training.memory_guard import MemoryGuard
    from afina.training.optim import make_optimizer
    from afina.training.session import Session, find_wrong_progress
    from afina.training.signals import StopSignals

    torch.manual_seed(0)
    model, config = torch.nn.Linear(4, 3), TrainingConfig(per_device_train_batch_size=1)
    rows: Any = SimpleNamespace(lengths=np.ones(STEPS_PER_EPOCH, np.int64))
    return Session(
        model=model, optimizer=make_optimizer(model, 0.1, 0.1), accelerator=None, objective=rows,  # type: ignore[arg-type]
        config=config, learning_rate=0.1, epochs=2, seed=0, store=CheckpointStore(folder, 2, find_wrong_progress),
        signals=StopSignals(), memory=MemoryGuard("cpu", False),
    )  # fmt: skip


@cache
def find_checkpoint() -> dict[str, bytes]:
    """The files of a good checkpoint."""
    from afina.training.gradients import Gradient
    from afina.training.session import Progress
    from afina.training.spikes import watch_for_spikes

    with tempfile.TemporaryDirectory() as folder:
        session = open_session(Path(folder))
        take_step(session)
        for value in (1.0, 2.0):
            watch_for_spikes(session, Gradient(value, value))
        session.progress = Progress(
            step=STEP, epoch=1, window=1, best_rank=0.5, best_loss=0.1, best_step=2, recent=session.progress.recent,
            skipped_steps=[{"step": 1, "what": "loss", "rows": [4]}], rows_per_pass=1,
            spikes=[{"step": 2, "what": "loss", "value": 9.0, "usual": 1.0}],
            smaller_passes=[{"step": 1, "rows_per_pass": 1, "why": "memory"}],
        )  # fmt: skip
        saved = session.store.save(session.model, session.optimizer, asdict(session.progress))
        return {path.name: path.read_bytes() for path in saved.iterdir()}


def take_step(session: Any) -> None:
    """One step of the optimizer, which stumbles over moments that don't fit."""
    import torch

    session.model(torch.ones(2, 4)).sum().backward()
    session.optimizer.step()
    session.optimizer.zero_grad()


def read_checkpoint(name: str) -> Callable[[bytes, Path], None]:
    """Find the newest checkpoint, go on from it, and tell what went wrong before."""

    def read(data: bytes, folder: Path) -> None:
        import json

        from afina.errors import RunFolderError
        from afina.pipeline.listeners import describe_incidents
        from afina.training import checkpoint_files
        from afina.training.checkpoint import name_step
        from afina.training.gradients import Gradient
        from afina.training.session import resume_from
        from afina.training.spikes import watch_for_spikes

        saved = folder / name_step(STEP)
        saved.mkdir()
        for other, content in (find_checkpoint() | {name: data}).items():
            (saved / other).write_bytes(content)
        if name != checkpoint_files.MANIFEST:
            manifest = checkpoint_files.make_manifest(saved)
            (saved / checkpoint_files.MANIFEST).write_text(json.dumps(manifest))
        session = open_session(folder)
        checkpoint, damaged = session.store.find_newest()
        if checkpoint is None:
            assert all(damaged.values())
            raise RunFolderError(next(iter(damaged.values())))
        resume_from(session, checkpoint)
        take_step(session)
        watch_for_spikes(session, Gradient(1.0, 1.0))
        describe_incidents(session.progress, SimpleNamespace(notes=[]))  # type: ignore[arg-type]

    return read


def make_checkpoint_file(name: str) -> Callable[[Path], Sequence[bytes]]:
    return lambda folder: [find_checkpoint()[name]]


CHECKPOINT_TARGETS = [
    Target(f"checkpoint {name}", make_checkpoint_file(name), read_checkpoint(name))
    for name in ("manifest.json", "state.json", "weights.safetensors", "optimizer.safetensors")
]
