"""The first stage: conversations checked, the template chosen, rows tokenised and marked, every `auto` resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from afina.config.reason import Reason
from afina.config.resolve import Sizes, resolve_for
from afina.config.run import GENERATION, RunConfig
from afina.config.techniques import AUTO
from afina.data.bad_rows import forbid_dropping
from afina.data.chat_template import choose_template
from afina.data.conversations import ConversationPart, Conversations, load_conversations
from afina.data.doctor.finding import Finding
from afina.data.doctor.subject import view_conversations
from afina.data.encode_conversations import Encoding, Tally, TrainedRows, encode_conversations, list_faults
from afina.errors import ConfigError, DataError, Problem
from afina.models.inspect import ModelFacts
from afina.models.resolve import describe_reference
from afina.models.vocabulary import check_vocabulary
from afina.pipeline.changes import pin_run
from afina.pipeline.costs import expect_costs
from afina.pipeline.examination import examine_rows
from afina.pipeline.language.choosing import FIRST_GUESS, choose_technique
from afina.pipeline.narrator import Narrator
from afina.pipeline.readiness import (
    find_technique,
    list_parts,
    make_sizes,
    name_scored_part,
    resolve_hardware,
)
from afina.pipeline.source import Opened
from afina.runs.folder import RunFolder
from afina.techniques.base import Setup, Technique
from afina.wording import count

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from afina.advice.costs import Costs
    from afina.advice.workload import Workload

ROWS_SHOWN = 10


@dataclass
class PreparedLanguage:
    """Everything that learning needs."""

    folder: RunFolder
    config: RunConfig
    """Resolved: no `auto` that depends on data or model is left."""
    conversations: Conversations
    findings: list[Finding]
    facts: ModelFacts
    technique: Technique
    setup: Setup
    tokenizer: PreTrainedTokenizerBase
    encoding: Encoding
    parts: dict[str, TrainedRows]
    tallies: dict[str, Tally]
    device: str
    costs: Costs | None
    """What the run is predicted to cost; None if that can't be said."""

    @property
    def pad_id(self) -> int:
        """The token that fills rows up; no mark is derived from it."""
        return int(self.tokenizer.pad_token_id)

    @property
    def scored(self) -> str:
        """The part whose scores stand in the report: `test`, or `validation` where the test part is left alone."""
        return name_scored_part(self.config)

    @property
    def part_rows(self) -> dict[str, int]:
        """Rows of each part: those with something to learn, or of a part that is left alone, all."""
        known = {name: part.row_count for name, part in self.parts.items()}
        return {name: known.get(name, len(part)) for name, part in self.conversations.parts.items()}


@dataclass(frozen=True)
class LanguageRows:
    """The conversations, and the description as far as their tokens depend on it."""

    given: RunConfig
    """The description before `auto` was resolved, but for the hardware."""
    config: RunConfig
    """Resolved for its technique, or for a guess where that is still to be chosen."""
    conversations: Conversations
    findings: list[Finding]
    sizes: Sizes

    @property
    def is_open(self) -> bool:
        """Whether the technique is still to be chosen."""
        return self.given.technique == AUTO


@dataclass(frozen=True)
class EncodedLanguage:
    """The conversations as tokens and marks, and what happened on the way, by part."""

    tokenizer: PreTrainedTokenizerBase
    encoding: Encoding
    parts: dict[str, TrainedRows]
    tallies: dict[str, Tally]


def prepare_language(config: RunConfig, folder: RunFolder, opened: Opened, narrator: Narrator) -> PreparedLanguage:
    """Check, resolve, tokenise.

    Raises:
        DataError: with every row that can't be used, or if nothing is left to learn.
        ResourceError: if the run wouldn't fit into memory.
        RunFolderError: if the disk is too full, or a resumed run's rows or model are others.
    """
    rows, facts = read_language(config, opened, narrator), opened.facts
    find_technique(rows.config, GENERATION, facts, folder)  # refused before rows are tokenised
    device, precision = str(rows.config.training.device), str(rows.config.training.precision)
    encoded = encode_language(rows, opened, folder, narrator)
    parts, tokenizer = encoded.parts, encoded.tokenizer
    reference = describe_reference(str(config.model.reference), str(opened.base))
    setup = Setup(opened.base, reference, None, tokenizer.pad_token_id, rows.config, precision)
    workload = describe_workload(parts, rows.config, device)
    sizes = replace(rows.sizes, train_units=len(parts["train"]))
    name = str(rows.given.technique)
    if rows.is_open:
        learned = count_tokens(parts["train"])["trained"]
        name = choose_technique(rows.given, setup, facts, sizes, workload, learned, narrator)
    config, reasons = resolve_for(rows.given, name, sizes)
    for reason in reasons:
        if reason.setting != "model.max_seq_length":  # told before
            narrator.explain(reason)
    technique, setup = find_technique(config, GENERATION, facts, folder), replace(setup, config=config)
    costs = expect_costs(technique, setup, facts, workload, device, narrator)
    prepared = PreparedLanguage(
        folder, config, rows.conversations, rows.findings, facts, technique, setup, tokenizer, encoded.encoding, parts,
        encoded.tallies, device, costs,
    )  # fmt: skip
    data_hash = rows.conversations.data_hash
    pin_run(folder, config, setup.base, data_hash, describe_data(prepared), narrator)
    return prepared


def read_language(config: RunConfig, opened: Opened, narrator: Narrator) -> LanguageRows:
    """Check the rows, and resolve what their tokens depend on.

    Raises:
        DataError: with every row that can't be used.
    """
    conversations, facts = load_rows(config, opened), opened.facts
    for reason in conversations.reasons:
        narrator.explain(reason)
    for note in conversations.notes:
        narrator.note(note)
    subject = view_conversations(conversations.parts.values(), conversations.columns)
    findings = examine_rows(subject, config, narrator)
    given = resolve_hardware(config.model_copy(update={"task": GENERATION}), narrator)
    is_open = given.technique == AUTO
    sizes = make_sizes(len(conversations.parts["train"]), facts, None)
    config, reasons = resolve_for(given, FIRST_GUESS if is_open else str(given.technique), sizes)
    for reason in reasons:
        if reason.setting == "model.max_seq_length":  # the others wait for the technique and for windows
            narrator.explain(reason)
    return LanguageRows(given, config, conversations, findings, sizes)


def encode_language(rows: LanguageRows, opened: Opened, folder: RunFolder, narrator: Narrator) -> EncodedLanguage:
    """Tokenise, telling what was cut, split or left out; nothing is asked of memory or disk.

    Raises:
        DataError: with every row that the template refuses, or if nothing is left to learn.
    """
    from afina.models.load import load_tokenizer

    with narrator.stage("tokenise"):
        tokenizer = load_tokenizer(opened.base)
        encoding = choose_encoding(rows.config, rows.conversations, tokenizer, narrator)
        parts, tallies = encode_parts(rows.conversations, tokenizer, encoding, rows.config, folder)
        for part in parts.values():
            check_vocabulary(part.tokens.ids, opened.facts.vocab_size, opened.facts.folder)
    for name, tally in tallies.items():
        for note in describe_tally(name, tally, parts[name], encoding.max_seq_length, rows.sizes.max_positions):
            narrator.note(note)
    return EncodedLanguage(tokenizer, encoding, parts, tallies)


def describe_workload(parts: Mapping[str, TrainedRows], config: RunConfig, device: str) -> Workload:
    """The rows as costs see them."""
    from afina.advice.workload import Workload

    train = parts["train"]
    return Workload.of_parts(parts, train.tokens, float(train.loss_mask.mean()), expects_packing(config, device))


def expects_packing(config: RunConfig, device: str) -> bool:
    """Whether rows will share sequences, if the model takes that."""
    return config.data.packing is True or (config.data.packing == "auto" and device != "cpu")


def load_rows(config: RunConfig, opened: Opened) -> Conversations:
    """The conversations, by the columns that the user named."""
    data = config.data
    flags = {
        "messages_column": data.messages_column,
        "prompt_column": data.prompt_column,
        "completion_column": data.completion_column,
    }
    return load_conversations(opened.source, data, config.seed, opened.tables, **flags)


def choose_encoding(
    config: RunConfig, conversations: Conversations, tokenizer: PreTrainedTokenizerBase, narrator: Narrator
) -> Encoding:
    """How rows become tokens: in the chat template where there are turns, or where the model has a template."""
    form, wanted = conversations.columns.form, config.model.chat_template
    needs, may = form == "messages", form in ("completion", "instruction")
    if form == "text" or (may and (wanted == "none" or (wanted == "auto" and not tokenizer.chat_template))):
        if config.model.chat_template_kwargs:
            raise ConfigError(
                "chat_template_kwargs need a chat template, and none is used here",
                found=", ".join(config.model.chat_template_kwargs),
                remedy="--chat-template auto, chatml or PATH, or leave them out",
            )
        has_template = False
        reason = "rows are plain text" if form == "text" else "prompt and answer are joined as they are"
        narrator.explain(Reason("model.chat_template", "none", reason))
    else:
        if needs and wanted == "none":
            raise DataError(
                "messages need a chat template", found="model.chat_template=none", remedy="--chat-template chatml"
            )
        has_template = True
        narrator.explain(choose_template(tokenizer, wanted, **config.model.chat_template_kwargs))
    return Encoding(has_template, config.data.train_on, int(config.model.max_seq_length))


def encode_parts(
    conversations: Conversations, tokenizer: PreTrainedTokenizerBase, encoding: Encoding, config: RunConfig,
    folder: RunFolder,
) -> tuple[dict[str, TrainedRows], dict[str, Tally]]:  # fmt: skip
    """Token arrays and tallies by part.

    Raises:
        DataError: for rows that can't be used, unless they are to be dropped, and where nothing is left.
    """
    parts, tallies = {}, {}
    for name in list_parts(config):
        parts[name], tallies[name] = encode_part(conversations.parts[name], tokenizer, encoding, folder)
    problems = list_faults(tallies, {name: part.table.source for name, part in conversations.parts.items()})
    if problems and config.data.on_bad_rows == "fail":
        raise DataError(problems=problems)
    problems = forbid_dropping(problems)
    empty = [name for name, rows in parts.items() if not len(rows)]
    if empty and problems and not any(tallies[name].untrained for name in empty):
        raise DataError(problems=problems)  # said once, though the rows are divided into parts
    if empty:
        raise DataError(problems=[make_empty_problem(name, tallies[name], encoding.max_seq_length) for name in empty])
    return parts, tallies


def encode_part(
    part: ConversationPart, tokenizer: PreTrainedTokenizerBase, encoding: Encoding, folder: RunFolder
) -> tuple[TrainedRows, Tally]:
    """The token arrays of one part, on disk while the run goes on, and what happened on the way."""
    return encode_conversations(part, tokenizer, encoding, folder.work / "tokens" / part.name)


def make_empty_problem(name: str, tally: Tally, length: int) -> Problem:
    """The problem of a part of which no row has a token to learn."""
    reasons = [f"{count(len(rows), 'row')} with {reason}" for reason, rows in tally.faults.items()]
    if tally.untrained:
        reasons.append(f"{count(len(tally.untrained), 'row')} whose answer begins after token {length}")
    return Problem(
        f"the {name} part holds nothing to learn",
        "; ".join(reasons),
        "rows with a token that is learned",
        f"--max-seq-length {tally.find_length()} would keep 99 % of the rows whole" if tally.untrained else "",
    )


def describe_tally(name: str, tally: Tally, rows: TrainedRows, length: int, most: int | None = None) -> list[str]:
    """What the user should know of a part's rows.

    Args:
        most: tokens that the model takes; None where it has no limit, or where nothing can be trained anew.
    """
    notes = []
    if tally.split:
        notes.append(
            f"{name}: {list_rows(tally.split)} became {tally.split_into:,}, one for each answer with what comes before"
            " it: the chat template rewrites earlier turns once others follow, or writes what shares tokens with them"
        )
    if tally.windowed:
        notes.append(
            f"{name}: {list_rows(tally.windowed)} longer than {length} tokens became {tally.windows:,} windows: every"
            " token is learned once"
        )
    if rows.tokens.cut_rows:
        share, wanted = tally.cut_trained / max(1, tally.whole_trained), tally.find_length()
        longer = f"--max-seq-length {wanted} would keep 99 % of the rows whole"
        if most is not None and wanted > most:
            longer = f"the model takes {most} tokens at most, and 99 % of the rows have up to {wanted}"
        notes.append(
            f"{name}: {rows.tokens.cut_rows:,} of {len(tally.lengths):,} rows are longer than {length} tokens and were"
            f" cut; {tally.cut_trained:,} tokens to learn ({share:.1%}) are lost; {longer}"
        )
    if tally.untrained:
        notes.append(f"{name}: no token to learn in {list_rows(tally.untrained)}; left out")
    notes += [f"{name}: dropped {list_rows(found)} with {reason}" for reason, found in tally.faults.items()]
    notes += [f"{name}: {note}: {list_rows(found)}" for note, found in tally.notes.items()]
    return notes


def list_rows(numbers: Any) -> str:
    """`3 rows (1, 5, 9)`."""
    shown = ", ".join(f"{number:,}" for number in list(numbers)[:ROWS_SHOWN])
    return f"{count(len(numbers), 'row')} ({shown}{', ...' if len(numbers) > ROWS_SHOWN else ''})"


def describe_data(prepared: PreparedLanguage) -> dict[str, Any]:
    """What data.json holds: hash, columns, counts, splits, cut and untrained rows."""
    conversations = prepared.conversations
    return {
        "hash": conversations.data_hash,
        "source": conversations.source,
        "revision": conversations.parts["train"].table.revision or None,
        "form": conversations.columns.form,
        "columns": conversations.columns.names,
        "counts": conversations.counts,
        "parts": prepared.part_rows,
        "tokens": {name: count_tokens(part) for name, part in prepared.parts.items()},
        "untrained": {name: list(tally.untrained) for name, tally in prepared.tallies.items()},
        "split": {name: list(tally.split) for name, tally in prepared.tallies.items()},
        "faults": list_faulty_rows(prepared.tallies),
        "notes": list(conversations.notes),
        "findings": [finding.as_dict() for finding in prepared.findings],
    }


def count_tokens(part: TrainedRows) -> dict[str, int]:
    """All tokens and those that are learned."""
    return {"all": len(part.tokens.ids), "trained": int(part.loss_mask.sum(dtype="int64"))}


def list_faulty_rows(tallies: Mapping[str, Tally]) -> dict[str, dict[str, list[int]]]:
    """Row numbers by part and reason."""
    return {name: {reason: list(rows) for reason, rows in tally.faults.items()} for name, tally in tallies.items()}
