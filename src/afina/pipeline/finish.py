"""The third stage: held-out scores and baselines, the model saved and proven, the report written last."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina import __version__
from afina.config.reason import Reason
from afina.errors import RunFolderError, describe_cause
from afina.evaluation.card import render_card
from afina.evaluation.report import render_report
from afina.models.load import quiet_transformers
from afina.models.resolve import name_model
from afina.pipeline.costs import describe_prediction
from afina.pipeline.environment import describe_environment
from afina.pipeline.learned import Learned
from afina.pipeline.listeners import count_skipped
from afina.pipeline.loading import describe_loading
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import Prepared
from afina.pipeline.proof import prove_saved_model
from afina.pipeline.scoring import score_run, write_rows
from afina.runs.folder import FOR_OWNER
from afina.runs.seen_texts import write_seen_texts
from afina.techniques.base import count_parameters
from afina.training.callbacks.history import read_history
from afina.training.memory import measure_peak_memory_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from afina.runs.folder import RunFolder


def finish_run(prepared: Prepared, learned: Learned, narrator: Narrator) -> dict[str, Any]:
    """Score, save, prove, report; gives what report.json holds."""
    task, folder = prepared.task, prepared.folder
    validation = prepared.parts["validation"]
    learned = replace(learned, fit=task.tune(learned.logits["validation"], validation.labels, learned.fit))
    scores = score_run(prepared, learned, narrator)
    with narrator.stage("save"):
        save_model(prepared, learned)
        folder.write_task(describe_task(prepared, learned))
    with narrator.stage("prove"):
        proof = prove_saved_model(prepared, learned)
    narrator.say(
        f"proof: the saved model, loaded afresh, gives the same logits on {proof['rows']} rows"
        f" (largest difference {proof['largest_difference']:.1e})"
    )
    write_rows(prepared, learned)
    write_seen_texts(folder, [prepared.examples.parts[name].hashes for name in learned.parts])
    report = build_report(prepared, learned, scores, proof, narrator)
    folder.write_json("reasons.json", report["reasons"])
    folder.write_json("environment.json", report["environment"])
    folder.clear_work()
    write_reports(folder, report)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    return report


def write_reports(folder: RunFolder, report: Mapping[str, Any]) -> None:
    """The report for people, the model card, and last the report for programs, which makes a run finished."""
    folder.write_text("report.html", render_report(report))
    folder.write_text("README.md", render_card(report))
    folder.make_private()
    folder.write_json("report.json", report)


def save_model(prepared: Prepared, learned: Learned) -> None:
    """Write `model/`: weights, head and tokenizer."""
    # Whoever loads the tokenizer cuts texts where training did.
    prepared.tokenizer.model_max_length = int(prepared.config.model.max_seq_length)
    technique = prepared.technique
    write_model(prepared.folder, lambda unfinished: technique.save(learned.model, prepared.tokenizer, unfinished))


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
        shutil.rmtree(folder.model, ignore_errors=True)
        os.rename(unfinished, folder.model)
    except (OSError, SafetensorError) as error:  # the latter is what safetensors makes of a full disk
        shutil.rmtree(unfinished, ignore_errors=True)
        again = (
            f"resume {folder.path}" if folder.checkpoints.exists() else "train once more, or --output on another disk"
        )
        raise RunFolderError(
            f"the model can't be written to {folder.model}",
            found=describe_cause(error, "safetensors"),
            remedy=f"free some space, then afina {again}",
        ) from error


def describe_task(prepared: Prepared, learned: Learned) -> dict[str, Any]:
    """What task.json holds: all that predicting needs beside the model's folder."""
    columns = prepared.examples.columns
    return {
        "task": prepared.task.name,
        "labels": prepared.examples.labels.as_dict(),
        "fit": learned.fit.as_dict(),
        "columns": {"text": columns.text, "text_pair": columns.text_pair, "label": columns.label},
        "base": {"reference": prepared.setup.reference, "revision": prepared.config.model.revision},
    }


def build_report(
    prepared: Prepared, learned: Learned, scores: Mapping[str, Any], proof: Mapping[str, Any], narrator: Narrator
) -> dict[str, Any]:
    """Everything that is known of the run, as report.json holds it."""
    config, facts = prepared.config, prepared.facts
    trainable, total = count_parameters(learned.model)
    pairs = prepared.examples.columns.text_pair is not None
    loading = describe_loading(prepared.folder.model, prepared.setup, prepared.task.name, pairs=pairs)
    narrator.explain(Reason("layout", loading["layout"], loading["why"]))
    return {
        "run": str(prepared.folder.path),
        "version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {"reference": name_model(str(config.model.reference)), "architecture": facts.model_type},
        "task": prepared.task.name,
        "kind": prepared.task.labels.kind,
        "technique": prepared.technique.name,
        "kept_step": learned.kept_step,
        "choice": learned.choice,
        **(learned.incidents or {}),
        "reasons": [asdict(reason) for reason in narrator.reasons],
        "rows": describe_rows(prepared),
        "class_counts": count_by_class(prepared.examples.class_counts),
        "notes": narrator.notes,
        "primary_metric": prepared.task.primary_metric,
        **scores,
        "metrics": {**scores["metrics"], **count_skipped(learned.incidents)},
        "history": read_history(prepared.folder.history),
        "trainable_parameters": trainable,
        "total_parameters": total,
        "duration_seconds": narrator.seconds,
        "stage_seconds": narrator.stage_seconds,
        "peak_memory_bytes": measure_peak_memory_bytes(prepared.device),
        "prediction": describe_prediction(prepared.costs),
        "proof": dict(proof),
        "load": loading,
        "settings": config.model_dump(mode="json"),
        "environment": describe_environment(prepared.device),
    }


def count_by_class(by_part: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Rows of each class in each part, from rows of each part by class."""
    names = dict.fromkeys(name for counts in by_part.values() for name in counts)
    return {name: {part: counts.get(name, 0) for part, counts in by_part.items()} for name in names}


def describe_rows(prepared: Prepared) -> dict[str, Any]:
    """Rows read, used, dropped by reason, and in each part."""
    counts = prepared.examples.counts
    return {
        "read": counts["read"],
        "used": counts["used"],
        "dropped": {reason: entry["count"] for reason, entry in counts["dropped"].items()},
        "parts": {name: len(part) for name, part in prepared.examples.parts.items()},
    }
