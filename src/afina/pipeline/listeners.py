"""Who listens to the training loop of a run, and what is told of it afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afina.errors import describe_rows
from afina.training.callbacks.heartbeat import Heartbeat
from afina.training.callbacks.history import HistoryWriter
from afina.training.callbacks.incidents import IncidentTeller
from afina.training.callbacks.trimmer import MemoryTrimmer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from afina.config.run import TrainingConfig
    from afina.pipeline.narrator import Narrator
    from afina.runs.folder import RunFolder
    from afina.training.events import Callback
    from afina.training.session import Progress


def make_listeners(folder: RunFolder, training: TrainingConfig, narrator: Narrator) -> tuple[Callback, ...]:
    """The history, the status, memory, and what a person sees, in the order in which they are told."""
    heartbeat = (Heartbeat(narrator.status.tell),) if narrator.status else ()
    return (
        HistoryWriter(folder.history, training.logging_steps, narrator.note),
        MemoryTrimmer(),
        *heartbeat,
        IncidentTeller(narrator.say),
        *narrator.callbacks(),
    )


def describe_incidents(progress: Progress, narrator: Narrator) -> dict[str, Any]:
    """What report.json holds of the odd things in a training, each with its count; they are noted for people too."""
    skipped, spikes, smaller = progress.skipped_steps, progress.spikes, progress.smaller_passes
    if skipped:
        rows = sorted({row for each in skipped for row in each["rows"]})
        steps = ", ".join(str(each["step"]) for each in skipped)
        narrator.notes.append(
            f"{len(skipped)} of {progress.step} steps were skipped, since their loss or gradient was not a finite"
            f" number: {steps}; training {describe_rows(rows)}"
        )
    if spikes:
        steps = ", ".join(str(each["step"]) for each in spikes)
        narrator.notes.append(f"the loss or the gradient jumped in {len(spikes)} of {progress.step} steps: {steps}")
    if smaller:
        narrator.notes.append(
            f"memory ran short: at most {progress.rows_per_pass} rows a pass from step"
            f" {smaller[-1]['step']} on, each step over the same rows as before"
        )
    return {
        "skipped_steps": {"count": len(skipped), "steps": skipped},
        "spikes": {"count": len(spikes), "steps": spikes},
        "smaller_passes": {"count": len(smaller), "steps": smaller},
    }


def count_skipped(incidents: Mapping[str, Any] | None) -> dict[str, int]:
    """`train/skipped_steps` for the scores of a run; nothing where no steps are taken."""
    return {"train/skipped_steps": incidents["skipped_steps"]["count"]} if incidents else {}
