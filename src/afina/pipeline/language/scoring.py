"""What held-out rows say of a language model, untouched and tuned: scores, intervals, answers, a line for each row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from afina.data.encode_conversations import number_rows
from afina.evaluation.verdict import UNTOUCHED
from afina.metrics.answers import score_answers
from afina.metrics.naming import prefix_bounds, prefix_scores
from afina.pipeline.language.learn import LearnedLanguage, Measured
from afina.pipeline.language.prepare import PreparedLanguage
from afina.pipeline.narrator import Narrator
from afina.runs.predictions import write_predictions
from afina.runs.row_scores import hash_content, write_row_scores
from afina.training.next_tokens import TokenCounts
from afina.wording import count


def score_language(prepared: PreparedLanguage, learned: LearnedLanguage, narrator: Narrator) -> dict[str, Any]:
    """What the report says of held-out rows: `scored`, `metrics`, `intervals`, `baselines`, `generations`."""
    config, scored = prepared.config, prepared.scored
    with narrator.stage("evaluate"):
        before, after = (score_state(prepared, learned, state, narrator) for state in (learned.before, learned.after))
    rows, answered = prepared.parts[scored].row_count, len(learned.samples)
    if 0 < answered < rows:
        narrator.note(
            f"exact match, chrF and ROUGE-L are of {count(answered, 'answer')}"
            f" (evaluation.generation_samples), the other scores of all {rows:,} {scored} rows"
        )
    gain = learned.after.counts.bootstrap_gain(
        learned.before.counts, config.evaluation.bootstrap_resamples, config.seed
    )
    validation = prefix_scores("validation", learned.validation.summarise())
    return {
        "scored": scored,
        "metrics": {**validation, **after["metrics"]},
        "intervals": after["intervals"],
        "baselines": {
            UNTOUCHED: {
                **before,
                "gain": prefix_bounds(scored, gain),
                "seconds": None,
                "note": "",
            }
        },
        "generations": list_answers(prepared, learned),
    }


def score_state(
    prepared: PreparedLanguage, learned: LearnedLanguage, state: Measured, narrator: Narrator
) -> dict[str, Any]:
    """`metrics` and `intervals` of one state of the model on the reported part."""
    counts, evaluation = state.counts, prepared.config.evaluation
    metrics = counts.summarise()
    answers, note = score_answers(state.answers, [sample.reference for sample in learned.samples])
    if note and note not in narrator.notes:
        narrator.note(note)
    metrics.update(answers)
    if state.general_loss is not None:
        metrics["general_loss"] = state.general_loss
    intervals = counts.bootstrap(evaluation.bootstrap_resamples, prepared.config.seed)
    return {
        "metrics": prefix_scores(prepared.scored, metrics),
        "intervals": prefix_bounds(prepared.scored, intervals),
    }


def list_answers(prepared: PreparedLanguage, learned: LearnedLanguage) -> list[dict[str, Any]]:
    """The sampled prompts, the answers of both models, and the one in the data."""
    triples = zip(learned.samples, learned.before.answers, learned.after.answers, strict=True)
    return [
        {"row": sample.row, "prompt": prepared.tokenizer.decode(sample.prompt_ids), "reference": sample.reference,
         "untouched": untouched, "tuned": tuned}
        for sample, untouched, tuned in triples
    ]  # fmt: skip


def write_answers(prepared: PreparedLanguage, answers: list[dict[str, Any]]) -> None:
    """predictions.jsonl: one line for each sampled prompt."""
    write_predictions(
        prepared.folder, (each["row"] for each in answers), ({"prediction": each["tuned"], **each} for each in answers)
    )


def write_language_rows(prepared: PreparedLanguage, learned: LearnedLanguage) -> None:
    """predictions.jsonl (answers to the sampled prompts) and row_scores.jsonl (losses of all held-out rows)."""
    write_answers(prepared, list_answers(prepared, learned))
    counts = {"validation": learned.validation, prepared.scored: learned.after.counts}
    lines = (line for name, found in counts.items() for line in iterate_row_scores(prepared, name, found))
    write_row_scores(prepared.folder, lines)


def iterate_row_scores(prepared: PreparedLanguage, name: str, counts: TokenCounts) -> Iterator[dict[str, Any]]:
    """For each row of a part: its number, a key of its content, its learned tokens and what was found at them."""
    places = {int(number): place for place, number in enumerate(counts.row_numbers_N)}
    for number, row in number_rows(prepared.conversations.parts[name]):
        if number in places:  # else it holds nothing to learn
            place = places[number]
            yield {
                "part": name, "row": number, "key": hash_content(row), "loss": float(counts.losses_N[place]),
                "tokens": int(counts.tokens_N[place]), "correct": int(counts.correct_N[place]),
            }  # fmt: skip
