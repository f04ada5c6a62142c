"""The third stage: held-out scores and baselines, the model saved and proven, the report written last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from afina.config.reason import Reason
from afina.pipeline.learned import Learned
from afina.pipeline.loading import describe_loading
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import Prepared
from afina.pipeline.proof import prove_saved_model
from afina.pipeline.restoring import describe_base
from afina.pipeline.result import describe_result, finish_folder, join_scores, write_model
from afina.pipeline.scoring import score_run, write_rows
from afina.runs.seen_texts import write_seen_texts
from afina.tasks.text_classification import FEWEST_POSITIVES
from afina.wording import quote_name

LABELS_SHOWN = 30

if TYPE_CHECKING:
    from collections.abc import Mapping


def finish_run(prepared: Prepared, learned: Learned, narrator: Narrator) -> dict[str, Any]:
    """Score, save, prove, report; gives what report.json holds."""
    task, folder = prepared.task, prepared.folder
    validation = prepared.parts["validation"]
    learned = replace(learned, state=task.tune(learned.logits["validation"], validation.labels, learned.state))
    if learned.state.thresholds:
        narrator.explain(explain_thresholds(prepared.examples.labels.names, learned.state.thresholds, len(validation)))
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
    finish_folder(folder, report)
    return report


def explain_thresholds(names: Sequence[str], thresholds: Sequence[float], rows: int) -> Reason:
    """From which probability each label is given, which whoever loads the model without afina has to know."""
    by_name = {name: round(float(threshold), 4) for name, threshold in zip(names, thresholds, strict=True)}
    shown = ", ".join(f"{quote_name(name)} {threshold:g}" for name, threshold in list(by_name.items())[:LABELS_SHOWN])
    more = ", ..." if len(by_name) > LABELS_SHOWN else ""
    few = f"0.5 where fewer than {FEWEST_POSITIVES} of them have the label"
    reason = f"the probability from which each label is given, by its F1 on {rows:,} validation rows; {few}"
    return Reason("thresholds", f"{shown}{more}", reason)


def save_model(prepared: Prepared, learned: Learned) -> None:
    """Write `model/`: weights, head and tokenizer."""
    # Whoever loads the tokenizer cuts texts where training did.
    prepared.tokenizer.model_max_length = int(prepared.config.model.max_seq_length)
    technique = prepared.technique
    write_model(prepared.folder, lambda unfinished: technique.save(learned.model, prepared.tokenizer, unfinished))


def describe_task(prepared: Prepared, learned: Learned) -> dict[str, Any]:
    """What task.json holds: all that predicting needs beside the model's folder."""
    columns = prepared.examples.columns
    return {
        "task": prepared.task.name,
        "labels": prepared.examples.labels.as_dict(),
        "fit": learned.state.as_dict(),
        "columns": {"text": columns.text, "text_pair": columns.text_pair, "label": columns.label},
        "base": describe_base(prepared.setup),
    }


def build_report(
    prepared: Prepared, learned: Learned, scores: Mapping[str, Any], proof: Mapping[str, Any], narrator: Narrator
) -> dict[str, Any]:
    """Everything that is known of the run, as report.json holds it."""
    pairs = prepared.examples.columns.text_pair is not None
    loading = describe_loading(prepared.folder.model, prepared.setup, prepared.task.name, pairs=pairs)
    narrator.explain(Reason("layout", loading["layout"], loading["why"]))
    return {
        **describe_result(prepared, learned, proof, loading, narrator),
        "task": prepared.task.name,
        "kind": prepared.task.labels.kind,
        "choice": learned.choice,
        "rows": summarise_rows(prepared),
        "class_counts": count_by_class(prepared.examples.class_counts),
        "primary_metric": prepared.task.primary_metric,
        **join_scores(scores, learned),
    }


def count_by_class(by_part: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Rows of each class in each part, from rows of each part by class."""
    names = dict.fromkeys(name for counts in by_part.values() for name in counts)
    return {name: {part: counts.get(name, 0) for part, counts in by_part.items()} for name in names}


def summarise_rows(prepared: Prepared) -> dict[str, Any]:
    """Rows read, used, dropped by reason, and in each part."""
    counts = prepared.examples.counts
    return {
        "read": counts["read"],
        "used": counts["used"],
        "dropped": {reason: entry["count"] for reason, entry in counts["dropped"].items()},
        "parts": {name: len(part) for name, part in prepared.examples.parts.items()},
    }
