"""How a run ends, whatever it has learned: its model on disk whole or not at all, what its report holds, its folder."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from afina import __version__
from afina.durable import sync_folder, sync_tree
from afina.errors import RunFolderError, describe_cause
from afina.evaluation.card import render_card
from afina.evaluation.report import render_report
from afina.models.load import quiet_transformers
from afina.models.resolve import name_model
from afina.pipeline.costs import describe_prediction
from afina.pipeline.environment import describe_environment
from afina.pipeline.listeners import count_skipped
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepared_run import PreparedRun
from afina.runs.folder import FOR_OWNER, RunFolder
from afina.runs.names import CARD, ENVIRONMENT, KEPT_REASONS, PAGE, REASONS, REPORT
from afina.techniques.base import count_parameters
from afina.training.callbacks.history import read_history
from afina.training.memory import measure_peak_memory_bytes

if TYPE_CHECKING:
    from torch import nn

    from afina.config.run import RunConfig


class Tuned(Protocol):
    """What a report asks of what was learned."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def kept_step(self) -> int | None: ...
    @property
    def incidents(self) -> dict[str, Any] | None: ...


def write_model(folder: RunFolder, save: Callable[[Path], None]) -> None:
    """What `save` writes, as the run's `model/`, whole: under another name, then renamed.

    Raises:
        RunFolderError: if the disk is full or can't be written; checkpoints are untouched.
    """
    from safetensors import SafetensorError

    unfinished = folder.path / ".model.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(FOR_OWNER)
        with quiet_transformers():
            save(unfinished)
        sync_tree(unfinished)  # checkpoints are removed soon, and then it is the only copy
        shutil.rmtree(folder.model, ignore_errors=True)
        os.rename(unfinished, folder.model)
        sync_folder(folder.path)
    except (OSError, SafetensorError) as error:  # the latter is what safetensors makes of a full disk
        shutil.rmtree(unfinished, ignore_errors=True)
        again = "train once more, or --output on another disk"
        if folder.checkpoints.exists():
            again = f"resume {shlex.quote(str(folder.path))}"
        raise RunFolderError(
            f"the model can't be written to {folder.model}",
            found=describe_cause(error, "safetensors"),
            remedy=f"free some space, then afina {again}",
        ) from error


def describe_result(
    prepared: PreparedRun, learned: Tuned, proof: Mapping[str, Any], loading: Mapping[str, Any], narrator: Narrator
) -> dict[str, Any]:
    """What report.json holds of every run, beside its scores and what its task adds."""
    config = prepared.config
    trainable, total = count_parameters(learned.model)
    return {
        "run": str(prepared.folder.path),
        "version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {"reference": name_model(str(config.model.reference)), "architecture": prepared.facts.model_type},
        "technique": prepared.technique.name,
        "kept_step": learned.kept_step,
        **(learned.incidents or {}),
        "reasons": [asdict(reason) for reason in narrator.reasons],
        "notes": narrator.notes,
        "history": read_history(prepared.folder.history),
        "trainable_parameters": trainable,
        "total_parameters": total,
        "duration_seconds": narrator.seconds,
        "stage_seconds": narrator.stage_seconds,
        "peak_memory_bytes": narrator.spent.join_peak(measure_peak_memory_bytes(prepared.device), prepared.device),
        "prediction": describe_prediction(prepared.costs),
        "proof": dict(proof),
        "load": dict(loading),
        "settings": config.model_dump(mode="json"),
        "environment": describe_environment(prepared.device),
    }


def join_scores(scores: Mapping[str, Any], learned: Tuned) -> dict[str, Any]:
    """The scores, with the steps that were skipped among the metrics."""
    return {**scores, "metrics": {**scores["metrics"], **count_skipped(learned.incidents)}}


def finish_folder(folder: RunFolder, report: Mapping[str, Any]) -> None:
    """Write what is told of the run and remove what only a running one needs."""
    folder.write_json(ENVIRONMENT, report["environment"])
    folder.clear_work(but=KEPT_REASONS)  # a run that is killed here goes on with them, and a full disk has room
    write_reports(folder, report)
    folder.clear_work()
    shutil.rmtree(folder.checkpoints, ignore_errors=True)


def rescore(
    folder: RunFolder, stored: Mapping[str, Any], scores: Mapping[str, Any], config: RunConfig, narrator: Narrator
) -> dict[str, Any]:
    """The report of a finished run with the scores of another part, written in the place of the older one."""
    of_training = {name: each for name, each in stored["metrics"].items() if name.startswith("train/")}
    report = {
        **stored, **scores, "metrics": {**scores["metrics"], **of_training}, "notes": narrator.notes,
        "reasons": [asdict(reason) for reason in narrator.reasons], "settings": config.model_dump(mode="json"),
    }  # fmt: skip
    write_reports(folder, report)
    return report


def write_reports(folder: RunFolder, report: Mapping[str, Any]) -> None:
    """The report for people, the model card, and last the report for programs, which makes a run finished."""
    folder.write_json(REASONS, report["reasons"])
    folder.write_text(PAGE, render_report(report))
    folder.write_text(CARD, render_card(report))
    folder.make_private()
    folder.write_json(REPORT, report)
