"""The first stage: data read and checked, model found and checked, every `auto` resolved, rows tokenised."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from afina.config.resolve import resolve_config, resolve_for
from afina.config.run import TAGGING, RunConfig
from afina.config.techniques import AUTO, FIRST_LOOK
from afina.data.doctor.finding import Finding
from afina.data.doctor.subject import view_labelled
from afina.data.encoded import EncodedPart
from afina.data.examples import Examples, Part
from afina.data.tagged_rows import TaggedPart
from afina.models.inspect import ModelFacts
from afina.models.layout import note_unread_parts
from afina.models.resolve import describe_reference
from afina.models.vocabulary import check_vocabulary
from afina.pipeline.changes import pin_run
from afina.pipeline.costs import expect_costs
from afina.pipeline.examination import examine_rows
from afina.pipeline.narrator import Narrator
from afina.pipeline.readiness import (
    find_technique,
    list_parts,
    make_sizes,
    name_scored_part,
    resolve_hardware,
)
from afina.pipeline.source import Opened
from afina.pipeline.tagging.rows import encode_tagged, read_examples
from afina.runs.folder import RunFolder
from afina.techniques.base import Setup, Technique

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from afina.advice.costs import Costs
    from afina.advice.workload import Workload
    from afina.tasks.base import Task


@dataclass
class Prepared:
    """Everything that learning needs."""

    folder: RunFolder
    config: RunConfig
    """Resolved: no `auto` that depends on data or model is left."""
    examples: Examples
    findings: list[Finding]
    facts: ModelFacts
    task: Task
    technique: Technique
    setup: Setup
    tokenizer: PreTrainedTokenizerBase
    parts: dict[str, EncodedPart]
    device: str
    given: RunConfig
    """The description before any `auto` was resolved."""
    costs: Costs | None
    """What the run is predicted to cost; None if that can't be said."""

    @property
    def pad_id(self) -> int:
        """The token that fills rows up."""
        return int(self.tokenizer.pad_token_id)

    @property
    def scored(self) -> str:
        """The part whose scores stand in the report: `test`, or `validation` where the test part is left alone."""
        return name_scored_part(self.config)


def prepare_run(config: RunConfig, folder: RunFolder, opened: Opened, narrator: Narrator) -> Prepared:
    """Check, resolve, tokenise. Nothing heavy is imported before the rows were checked.

    With the technique `auto` the run is prepared for feature extraction, and nothing is written to its folder yet.
    """
    with narrator.stage("read"):
        examples = read_examples(config, opened)
    tell_data(examples, narrator)
    for note in note_unread_parts(opened.base):
        narrator.note(note)
    subject = view_labelled(examples.parts.values(), examples.columns, examples.labels)
    findings = examine_rows(subject, config, narrator)
    given = config.model_copy(update={"task": examples.columns.task})
    is_open = given.technique == AUTO
    config = given.model_copy(update={"technique": FIRST_LOOK}) if is_open else given
    # What can't be is refused before rows are tokenised; what their number decides waits for that of their windows.
    rough, _ = resolve_config(config, make_sizes(len(examples.parts["train"]), opened.facts, examples.labels))
    config = resolve_hardware(config, narrator)
    device, precision = str(config.training.device), str(config.training.precision)

    from afina.models.load import load_tokenizer
    from afina.tasks.registry import make_task

    task = make_task(config.task, examples.labels)
    technique = find_technique(config, task.name, opened.facts, folder)
    if (technique.traits.moves == "adapter" or opened.is_tagging) and config.features.pooling not in ("auto", "own"):
        reader = TAGGING if opened.is_tagging else technique.name
        narrator.note(f"features.pooling: {reader} doesn't read it; its head reads the architecture's own")
    if config.training.class_weight != "none" and examples.labels.kind == "regression":
        narrator.note(
            f"training.class_weight={config.training.class_weight}: numbers to predict have no classes to weigh"
        )
    with narrator.stage("tokenise"):
        tokenizer = load_tokenizer(opened.base)
        parts = encode_parts(examples, tokenizer, opened.facts, rough, folder, narrator)
    config, reasons = resolve_config(config, make_sizes(len(parts["train"]), opened.facts, examples.labels))
    for reason in reasons:
        narrator.explain(reason)
    head, reference = task.head_shape().as_config(), describe_reference(str(config.model.reference), str(opened.base))
    setup = Setup(opened.base, reference, head, tokenizer.pad_token_id, config, precision)
    costs = expect_costs(technique, setup, opened.facts, describe_workload(parts), device, narrator)
    prepared = Prepared(
        folder, config, examples, findings, opened.facts, task, technique, setup, tokenizer, parts, device, given,
        costs,
    )  # fmt: skip
    if is_open and opened.is_tagging:
        from afina.pipeline.tagging.choosing import settle_technique

        prepared, is_open = settle_technique(prepared, narrator), False
    if not is_open:
        keep(prepared, narrator)
    return prepared


def change_technique(prepared: Prepared, name: str, narrator: Narrator) -> Prepared:
    """The same rows for another technique; what depends on it is resolved anew."""
    facts = prepared.facts
    sizes = make_sizes(len(prepared.parts["train"]), facts, prepared.examples.labels)
    config, reasons = resolve_for(prepared.given, name, sizes)
    # What the hardware decided stays.
    chosen = {key: getattr(prepared.config.training, key) for key in ("device", "precision")}
    training = config.training.model_copy(update=chosen)
    config = config.model_copy(update={"training": training, "evaluation": prepared.config.evaluation})
    known = {reason.setting for reason in narrator.reasons}
    for reason in reasons:
        if reason.setting not in known:
            narrator.explain(reason)
    technique = find_technique(config, prepared.task.name, facts, prepared.folder)
    setup, workload = replace(prepared.setup, config=config), describe_workload(prepared.parts)
    costs = expect_costs(technique, setup, facts, workload, prepared.device, narrator)
    return replace(prepared, config=config, technique=technique, setup=setup, costs=costs)


def describe_workload(parts: Mapping[str, EncodedPart]) -> Workload:
    """The rows as costs see them."""
    from afina.advice.workload import Workload

    return Workload.of_parts(parts, parts["train"].tokens)


def keep(prepared: Prepared, narrator: Narrator) -> None:
    """Write down what the run is, see `pin_run`."""
    pin_run(
        prepared.folder, prepared.config, prepared.setup.base, prepared.examples.data_hash, describe_data(prepared),
        narrator,
    )  # fmt: skip


def tell_data(examples: Examples, narrator: Narrator) -> None:
    """Say what was guessed, dropped and counted."""
    for reason in examples.reasons:
        narrator.explain(reason)
    for note in examples.notes:
        narrator.note(note)


def encode_parts(
    examples: Examples, tokenizer: PreTrainedTokenizerBase, facts: ModelFacts, config: RunConfig, folder: RunFolder,
    narrator: Narrator,
) -> dict[str, EncodedPart]:  # fmt: skip
    """Token arrays of the parts that the run may look at, telling what was cut."""
    from afina.data.encode import check_room

    length = int(config.model.max_seq_length)
    check_room(tokenizer, length, is_pair=examples.columns.text_pair is not None)
    return {
        name: encode_part(examples.parts[name], tokenizer, facts, length, folder.work / "tokens" / name, narrator)
        for name in list_parts(config)
    }


def encode_part(
    part: Part, tokenizer: PreTrainedTokenizerBase, facts: ModelFacts, max_seq_length: int, folder: Path,
    narrator: Narrator,
) -> EncodedPart:  # fmt: skip
    """The token arrays of one part, written to `folder`, telling what was cut."""
    from afina.data.encode import encode_texts

    if isinstance(part, TaggedPart):
        tagged = encode_tagged(part, tokenizer, max_seq_length, folder, narrator)
        check_vocabulary(tagged.tokens.ids, facts.vocab_size, facts.folder)
        return tagged
    tokens = encode_texts(tokenizer, part.texts(), max_seq_length, folder)
    check_vocabulary(tokens.ids, facts.vocab_size, facts.folder)
    if tokens.cut_rows:
        keeps = facts.max_positions is None or max_seq_length < facts.max_positions
        more = " (--set model.max_seq_length=N keeps more)" if keeps else ", for the model takes no more"
        share = tokens.cut_tokens / (len(tokens.ids) + tokens.cut_tokens)
        narrator.note(
            f"{part.name}: {tokens.cut_rows:,} of {len(tokens):,} rows are longer than {max_seq_length} tokens and were"
            f" cut; {share:.1%} of the tokens are lost{more}"
        )
    return EncodedPart(part.name, tokens, part.labels, part.row_numbers)


def describe_data(prepared: Prepared) -> dict[str, Any]:
    """What data.json holds: hash, columns, labels, counts, splits and cut rows."""
    examples = prepared.examples
    columns = examples.columns
    return {
        "hash": examples.data_hash,
        "source": examples.source,
        "revision": examples.parts["train"].table.revision or None,
        "columns": {"text": columns.text, "text_pair": columns.text_pair, "label": columns.label},
        "labels": examples.labels.as_dict(),
        "counts": examples.counts,
        "class_counts": examples.class_counts,
        "parts": {name: len(part) for name, part in examples.parts.items()},
        "cut": {n: {"rows": p.tokens.cut_rows, "tokens": p.tokens.cut_tokens} for n, p in prepared.parts.items()},
        "notes": list(examples.notes),
        "findings": [finding.as_dict() for finding in prepared.findings],
    }
