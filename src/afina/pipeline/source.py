"""What the user named, opened: the rows on disk, the model's folder, and which kind of task it will be."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afina.config.reason import Reason
from afina.config.run import GENERATION, TAGGING, RunConfig
from afina.config.unread import list_unread
from afina.data.cache import locate_cache
from afina.data.column_profile import profile_columns
from afina.data.conversation_columns import holds_labels, looks_like_conversations, looks_like_preferences
from afina.data.read import read_parts
from afina.data.rows import RowTable
from afina.data.tagged_columns import find_tagged_columns
from afina.errors import ModelError
from afina.models.gguf import convert_gguf, is_gguf
from afina.models.inspect import ModelFacts, inspect_model
from afina.models.resolve import describe_file, resolve_model
from afina.pipeline.narrator import Narrator
from afina.runs.folder import RunFolder

NEEDS = {GENERATION: "causal-lm", TAGGING: TAGGING}


@dataclass(frozen=True)
class Opened:
    """The user's data and model."""

    tables: Mapping[str, RowTable]
    source: Any
    base: Path
    """Folder of the model."""
    facts: ModelFacts
    is_generation: bool
    """Whether a language model is trained; the other tasks have a label for each row."""
    is_tagging: bool = False
    """Whether each word has a label."""


def open_source(
    config: RunConfig, folder: RunFolder, source: Any, narrator: Narrator,
    convert: Callable[[Path, Path], Path] = convert_gguf,
) -> Opened:  # fmt: skip
    """Find the model, read the rows, and tell a language model's rows from labelled ones.

    Args:
        convert: makes an ordinary folder of a GGUF file, given the file and the cache.

    Raises:
        ModelError, DataError: if one of them can't be used.
    """
    base = find_model(config)
    with narrator.stage("read"):
        tables = read_parts(source, folder.work / "rows")
    return open_model(config, tables, source, narrator, base, convert)


def find_model(config: RunConfig) -> Path:
    """The model's folder or GGUF file."""
    wants_gguf = config.task in ("auto", GENERATION)
    return resolve_model(str(config.model.reference), config.model.revision, allow_gguf=wants_gguf)


def open_model(
    config: RunConfig, tables: Mapping[str, RowTable], source: Any, narrator: Narrator, base: Path | None = None,
    convert: Callable[[Path, Path], Path] = convert_gguf,
) -> Opened:  # fmt: skip
    """The model looked at beside the rows that were read of `source`."""
    reference, base = str(config.model.reference), base or find_model(config)
    task, reason = guess_task(config, tables, base)
    if task != GENERATION and is_gguf(base):
        raise describe_file(base)
    if is_gguf(base):
        narrator.say(f"reading {base.name}: its numbers are de-quantised into an ordinary model, once")
        base = convert(base, locate_cache())
    facts = inspect_model(base, NEEDS.get(task, "sequence-classification"))
    if reason:
        narrator.explain(Reason("task", task, reason))
    for note in list_unread(config, is_generation=task == GENERATION):
        narrator.note(note)
    if task == GENERATION:
        check_writes(facts, reference, "--model of one that writes; for rows with labels --task text-classification")
    return Opened(tables, source, base, facts, task == GENERATION, task == TAGGING)


def check_writes(facts: ModelFacts, reference: str, remedy: str) -> None:
    """Refuse a model that only reads.

    Raises:
        ModelError: if it is an encoder.
    """
    if facts.architecture == "encoder":
        raise ModelError(
            f"the model {reference} reads texts but can't write any",
            found=f"an encoder ({facts.model_type})",
            expected="a causal language model, such as a Llama, Qwen, Gemma or GPT-2",
            remedy=remedy,
        )


def guess_task(config: RunConfig, tables: Mapping[str, RowTable], base: Path | None) -> tuple[str, str]:
    """The task, or `auto` where labels will say which one, and the reason if it was guessed.

    Args:
        base: of the model, None where there is none yet.
    """
    if config.task != "auto":
        return config.task, ""
    data = config.data
    table = tables["all"] if "all" in tables else tables["train"]
    if data.messages_column or data.prompt_column or data.completion_column:
        return GENERATION, "columns of messages, or of prompts and completions, are named"
    if find_tagged_columns(table, data):
        return TAGGING, "each word has a tag"
    if data.label_column:
        return "auto", ""
    writes = base is not None and (is_gguf(base) or is_language_model(base))
    if looks_like_preferences(table, writes=writes):  # which is refused there, with what to do instead
        return GENERATION, "each row has a better and a worse answer, or one that is marked"
    if looks_like_conversations(table, writes=writes):
        return GENERATION, "the columns hold messages, or prompts and their answers"
    if base and is_gguf(base):
        return GENERATION, "the model is a GGUF file, which holds a language model"
    if holds_text_alone(table) and (base is None or writes):
        why = "and the model is a language model" if base else "which only a language model learns from"
        return GENERATION, f"there is nothing but text, {why}"
    if writes and not data.text_pair_column and not holds_labels(table):
        return GENERATION, "the model is a language model, and no column looks like labels"
    return "auto", ""


def holds_text_alone(table: RowTable) -> bool:
    """Whether one column holds text and there is no other."""
    profiles = profile_columns(table)
    return len(profiles) == 1 and next(iter(profiles.values())).is_text


def is_language_model(base: Path) -> bool:
    """Whether the folder's config names a class of causal language models."""
    from afina.models.layout import read_json

    path = base / "config.json"
    names = read_json(path).get("architectures") if os.path.isfile(path) else None
    return isinstance(names, list) and any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in names)
