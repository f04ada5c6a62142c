"""The third stage: scores beside those of the untouched model, the result saved and proven, the report last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from afina.config.reason import Reason
from afina.config.run import GENERATION
from afina.data.batches import Indices
from afina.data.packing import collate_padded
from afina.metrics.primary import PRIMARY_METRICS
from afina.pipeline.language.learn import LearnedLanguage
from afina.pipeline.language.loading import describe_loading
from afina.pipeline.language.prepare import PreparedLanguage, count_tokens
from afina.pipeline.language.scoring import score_language, write_language_rows
from afina.pipeline.narrator import Narrator
from afina.pipeline.proof import SAVED_TOLERANCE, compare_logits
from afina.pipeline.restoring import describe_base
from afina.pipeline.result import describe_result, finish_folder, join_scores, write_model
from afina.runs.seen_texts import write_seen_texts
from afina.tasks.base import Floats

PRIMARY_METRIC = PRIMARY_METRICS["generation"]
ROWS_TO_PROVE = 4
PLACES_TO_PROVE = 64
SAMPLE_TOKENS = 256
MASK_ROWS = 3
MASK_TOKENS = 400


def finish_language(prepared: PreparedLanguage, learned: LearnedLanguage, narrator: Narrator) -> dict[str, Any]:
    """Score, save, prove, report; gives what report.json holds."""
    folder = prepared.folder
    scores = score_language(prepared, learned, narrator)
    with narrator.stage("save"):
        add_stop_tokens(learned)
        write_model(folder, lambda unfinished: prepared.technique.save(learned.model, prepared.tokenizer, unfinished))
        folder.write_task(describe_task(prepared, learned))
    with narrator.stage("prove"):
        proof = prove_saved_model(prepared, learned)
    narrator.say(
        f"proof: the saved model, loaded afresh, gives the same logits at {proof['rows']} places"
        f" (largest difference {proof['largest_difference']:.1e})"
    )
    write_seen_texts(folder, [prepared.conversations.parts["train"].hashes])
    write_language_rows(prepared, learned)
    report = build_report(prepared, learned, scores, proof, narrator)
    finish_folder(folder, report)
    return report


def add_stop_tokens(learned: LearnedLanguage) -> None:
    """Name the tokens that end an answer in the model's settings, so that every library stops there."""
    model: Any = learned.model
    model.generation_config.eos_token_id = learned.stops or None
    # Sampling settings that the base was published with are kept; greedy decoding is asked for by the call.
    model.generation_config.pad_token_id = learned.objective.pad_id


def describe_task(prepared: PreparedLanguage, learned: LearnedLanguage) -> dict[str, Any]:
    """What task.json holds: all that answering needs beside the model's folder."""
    return {
        "task": GENERATION,
        "form": prepared.conversations.columns.form,
        "columns": prepared.conversations.columns.names,
        "has_template": prepared.encoding.has_template,
        "stop_tokens": learned.stops,
        "sample": [row.tolist() for row in take_sample_rows(prepared)],
        "base": describe_base(prepared.setup),
    }


def take_sample_rows(prepared: PreparedLanguage) -> list[Any]:
    """Tokens of a few held-out rows, on which a merged model is compared with the run's."""
    held_out = prepared.parts[prepared.scored]
    return [held_out.tokens.row(row)[:SAMPLE_TOKENS] for row in range(min(ROWS_TO_PROVE, len(held_out)))]


def prove_saved_model(prepared: PreparedLanguage, learned: LearnedLanguage) -> dict[str, Any]:
    """`rows` (places compared), `largest_difference` and `tolerance` of the logits of trained and saved model.

    Raises:
        ProofError: if they differ; the folder stays for a look.
    """
    saved = prepared.technique.restore(prepared.folder.model, prepared.setup).to(prepared.device)
    rows = np.arange(min(ROWS_TO_PROVE, len(learned.objective.validation)))
    wanted, found = (compute_logits(learned, model, rows) for model in (learned.model, saved))
    difference, tolerance = compare_logits(
        "the saved model, loaded afresh, doesn't give the logits of the trained one", wanted, found,
        SAVED_TOLERANCE[prepared.setup.precision], prepared.folder.path, unit="places",
    )  # fmt: skip
    return {"rows": len(wanted), "largest_difference": difference, "tolerance": tolerance}


def compute_logits(learned: LearnedLanguage, model: Any, rows: Indices) -> Floats:
    """Logits at the first learned places of some validation rows."""
    batch = collate_padded(learned.objective.validation, rows, learned.objective.pad_id).to(learned.accelerator.device)
    with torch.inference_mode(), learned.accelerator.autocast():
        logits_BTV = model.eval()(**batch.inputs, use_cache=False).logits
    return logits_BTV.flatten(0, 1)[batch.places_K[:PLACES_TO_PROVE]].float().cpu().numpy()


def build_report(
    prepared: PreparedLanguage, learned: LearnedLanguage, scores: Mapping[str, Any], proof: Mapping[str, Any],
    narrator: Narrator,
) -> dict[str, Any]:  # fmt: skip
    """Everything that is known of the run, as report.json holds it."""
    loading = describe_loading(prepared.folder.model, prepared.setup, has_template=prepared.encoding.has_template)
    narrator.explain(Reason("layout", loading["layout"], loading["why"]))
    return {
        **describe_result(prepared, learned, proof, loading, narrator),
        "task": GENERATION,
        "kind": "generation",
        "rows": summarise_rows(prepared),
        "tokens": {name: count_tokens(part) for name, part in prepared.parts.items()},
        "primary_metric": PRIMARY_METRIC,
        "mask": show_masks(prepared),
        **join_scores(scores, learned),
    }


def summarise_rows(prepared: PreparedLanguage) -> dict[str, Any]:
    """Rows read, used, dropped by reason, and in each part."""
    counts = prepared.conversations.counts
    dropped = {reason: entry["count"] for reason, entry in counts["dropped"].items()}
    for tally in prepared.tallies.values():
        for reason, rows in [*tally.faults.items(), ("no token to learn", tally.untrained)]:
            if rows:
                dropped[f"rows with {reason}"] = dropped.get(f"rows with {reason}", 0) + len(rows)
    parts = prepared.part_rows
    return {"read": counts["read"], "used": sum(parts.values()), "dropped": dropped, "parts": parts}


def show_masks(prepared: PreparedLanguage) -> list[dict[str, Any]]:
    """The first training rows as stretches of text, each learned or only read."""
    from afina.pipeline.language.mask import split_stretches

    train = prepared.parts["train"]
    return [
        {"row": int(train.row_numbers[row]), "stretches": split_stretches(train, row, prepared.tokenizer, MASK_TOKENS)}
        for row in range(min(MASK_ROWS, len(train)))
    ]
