"""Conversations through the eyes of a model: what is learned of them, what would be cut, and what it can't use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from afina.config.run import GENERATION, RunConfig
from afina.data.bad_rows import RowNumbers
from afina.data.chat import END_UNMARKED, NO_END
from afina.data.conversation_columns import Form
from afina.data.doctor.finding import Finding, Severity
from afina.data.doctor.lengths import summarise, tabulate_cuts
from afina.data.encode_conversations import ENDED_EARLY, STRANGE, Tally, choose_remedy, hits_all
from afina.data.rows import RowTable
from afina.pipeline.check_model import ModelView
from afina.pipeline.language.mask import split_stretches
from afina.pipeline.language.prepare import EncodedLanguage, encode_language, read_language
from afina.pipeline.narrator import Narrator
from afina.pipeline.source import open_model
from afina.runs.folder import RunFolder
from afina.wording import count

MANY_SHARE = 0.01
# What a special token's string in a text means, and what to do.
SPELLED_IN_TURNS = (
    "such a text ends a turn or opens another one, as if the template had written it",
    "take these strings out of the texts",
)
SPELLED_IN_TEXT = (
    "they are read as tokens; where they are the turns of a chat, what users say is learned, too",
    "to learn answers alone, write such turns as messages: a list of role and content for each row",
)

ENDLESS_MEANING = "the model isn't taught where its answers end, and writes on until max_new_tokens"
ENDLESS = {
    NO_END: "--chat-template PATH of a copy of it that writes {{ eos_token }} after each answer, or --chat-template"
    " chatml",
    END_UNMARKED: "--chat-template PATH of a copy of it whose {% generation %} marks hold each answer with its end",
}
SPLIT_MEANING = (
    "the chat template writes earlier turns otherwise once others follow, or an answer shares a token with the prompt"
    " before it, so each is learned behind what comes before it, as the model will see it; that takes longer"
)
SPLIT_REMEDY = "nothing; --set data.train_on=last learns the last answers alone, in a fraction of the time"


def look_at_conversations(
    config: RunConfig, source: Any, tables: Mapping[str, RowTable], mask: int, work: Path, narrator: Narrator
) -> ModelView:
    """Findings on what is learned of each row, counts of tokens, and the first `mask` training rows in stretches.

    Raises:
        DataError: if nothing is left to learn.
    """
    data = config.data.model_copy(update={"on_bad_rows": "drop", "on_findings": "warn"})
    config = config.model_copy(update={"task": GENERATION, "technique": "lora", "data": data})
    opened, quiet = open_model(config, tables, source, narrator), Narrator()
    rows = read_language(config, opened, quiet)
    encoded = encode_language(rows, opened, RunFolder(work), quiet)
    # Parts that were cut off for validation and test are parts of the same file.
    where = {name: name if name in tables else next(iter(tables)) for name in encoded.parts}
    findings = [*describe_faults(encoded, where, rows.conversations.columns.form), *describe_losses(encoded, where)]
    may_cut = rows.conversations.columns.form != "text"
    return ModelView(findings, count_tokens(encoded, may_cut=may_cut), quiet.reasons, show_masks(encoded, mask))


def gather(tallies: Mapping[str, Tally], where: Mapping[str, str], choose: Any) -> dict[str, RowNumbers]:
    """Numbers of the rows that `choose` finds in a tally, by the part of the user's data."""
    rows: dict[str, list[int]] = {}
    for name, tally in tallies.items():
        rows.setdefault(where[name], []).extend(choose(tally) or ())
    return {name: RowNumbers(sorted(numbers)) for name, numbers in rows.items() if numbers}


def describe_faults(encoded: EncodedLanguage, where: Mapping[str, str], form: Form) -> Iterator[Finding]:
    """Rows that this model's template refuses, and rows that are odd."""
    tallies = encoded.tallies
    for reason in dict.fromkeys(reason for tally in tallies.values() for reason in tally.faults):
        rows = gather(tallies, where, lambda tally, reason=reason: tally.faults.get(reason))
        found = next(tally.details[reason] for tally in tallies.values() if reason in tally.details)
        title = f"{count(sum(map(len, rows.values())), 'row')} with {reason}{f': {found}' if found else ''}"
        meaning = "a run stops before it begins, and lists these rows"
        remedy = choose_remedy(reason, is_all=hits_all(reason, tallies.values()))
        yield make_finding("unusable-row", "error", title, meaning, remedy, rows)
    yield from describe_notes(tallies, where, form)
    if split := gather(tallies, where, lambda tally: tally.split):
        into = sum(tally.split_into for tally in tallies.values())
        title = f"{count(sum(map(len, split.values())), 'conversation')} become {into:,} rows, one for each answer"
        yield make_finding("split-conversations", "hint", title, SPLIT_MEANING, SPLIT_REMEDY, split)


def describe_notes(tallies: Mapping[str, Tally], where: Mapping[str, str], form: Form) -> Iterator[Finding]:
    """Rows that are odd, but used."""
    for note in dict.fromkeys(note for tally in tallies.values() for note in tally.notes):
        rows = gather(tallies, where, lambda tally, note=note: tally.notes.get(note))
        title = f"{count(sum(map(len, rows.values())), 'row')}: {note}"
        if note == ENDED_EARLY:
            meaning, remedy = SPELLED_IN_TURNS
            yield make_finding("special-strings", "warning", title, meaning, remedy, rows)
        elif note == STRANGE:
            meaning, remedy = SPELLED_IN_TEXT if form == "text" else SPELLED_IN_TURNS
            yield make_finding("special-strings", "warning", title, meaning, remedy, rows)
        elif note in ENDLESS:
            yield make_finding("odd-conversations", "warning", title, ENDLESS_MEANING, ENDLESS[note], rows)
        else:
            meaning, remedy = "the row is used, but not quite as it stands", "look at one of them with --show-mask"
            yield make_finding("odd-conversations", "hint", title, meaning, remedy, rows)


def describe_losses(encoded: EncodedLanguage, where: Mapping[str, str]) -> Iterator[Finding]:
    """Rows of which nothing is learned, and what the limit cuts."""
    tallies, limit = encoded.tallies, encoded.encoding.max_seq_length
    rows = gather(tallies, where, lambda tally: tally.untrained)
    if rows:
        total = sum(map(len, rows.values()))
        yield make_finding(
            "nothing-to-learn",
            "warning",
            f"{count(total, 'row')} without a token to learn within {limit:,} tokens",
            "the answer begins after the limit, or is empty for this model; these rows are left out",
            f"--max-seq-length {max(tally.find_length() for tally in tallies.values())}",
            rows,
        )
    lost, whole = (sum(getattr(tally, name) for tally in tallies.values()) for name in ("cut_trained", "whole_trained"))
    share = lost / max(1, whole)
    if lost:
        cut = sum(tally.cut_rows for tally in tallies.values())
        enough = max(tally.find_length() for tally in tallies.values())
        yield Finding(
            "long-texts",
            "warning" if share >= MANY_SHARE else "hint",
            f"{count(cut, 'row')} longer than {limit:,} tokens; {share:.1%} of the tokens to learn would be cut",
            "the ends of answers are never learned, nor that they end",
            f"--max-seq-length {enough} would keep 99 % of the rows whole, if the model reads that many",
            cut,
        )


def make_finding(
    code: str, severity: Severity, title: str, meaning: str, remedy: str, rows: dict[str, RowNumbers]
) -> Finding:
    """A finding about rows."""
    return Finding(code, severity, title, meaning, remedy, sum(map(len, rows.values())), rows)


def count_tokens(encoded: EncodedLanguage, *, may_cut: bool) -> dict[str, Any]:
    """Lengths of rows before they are cut, what limits would cut if they do, and tokens by part."""
    lengths = np.array([length for tally in encoded.tallies.values() for length in tally.lengths], np.int64)
    parts = {
        name: {
            "rows": part.row_count,
            "tokens": len(part.tokens.ids),
            "trained_tokens": int(part.loss_mask.sum(dtype="int64")),
        }
        for name, part in encoded.parts.items()
    }
    cuts = [{**cut, **measure_loss(encoded, cut["limit"])} for cut in tabulate_cuts(lengths) if may_cut]
    return {"tokens": {"quantiles": summarise(lengths), "cuts": cuts, "sample": ""}, "parts": parts}


def measure_loss(encoded: EncodedLanguage, limit: int) -> dict[str, float]:
    """`trained`: the share of the tokens to learn after `limit`; nothing beyond the limit that rows were cut at."""
    if limit > encoded.encoding.max_seq_length:
        return {}
    whole = sum(tally.whole_trained for tally in encoded.tallies.values())
    lost = sum(tally.cut_trained for tally in encoded.tallies.values())
    for part in encoded.parts.values():
        places_T = np.arange(len(part.loss_mask)) - np.repeat(part.tokens.offsets[:-1], part.tokens.lengths)
        lost += int(part.loss_mask[places_T >= limit].sum(dtype="int64"))
    return {"trained": lost / max(1, whole)}


def show_masks(encoded: EncodedLanguage, most: int) -> list[dict[str, Any]]:
    """The first training rows as stretches of text, learned or only read."""
    train = encoded.parts["train"]
    return [
        {
            "row": int(train.row_numbers[row]),
            "trained_tokens": int(train.row_loss_mask(row).sum()),
            "stretches": split_stretches(train, row, encoded.tokenizer),
        }
        for row in range(min(most, len(train)))
    ]
