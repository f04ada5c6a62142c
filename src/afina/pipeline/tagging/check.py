"""Tagged words looked at before anything is trained: what only their tags can tell, and how long they are in tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from afina.config.run import TAGGING, RunConfig
from afina.data.bad_rows import RowNumbers
from afina.data.columns import ColumnChoice
from afina.data.doctor.classes import ROWS_LEAST, group_variants, list_names
from afina.data.doctor.finding import Finding, name_part
from afina.data.doctor.lengths import summarise, tabulate_cuts
from afina.data.doctor.subject import Subject, view_labelled
from afina.data.labels import LabelSpace
from afina.data.rows import RowTable
from afina.data.tagged_columns import choose_tagged_columns
from afina.data.tagged_rows import (
    TaggedPart,
    UsableTags,
    check_tags,
    count_faulty,
    find_usable_tags,
    make_tagged_part,
    split_tagged,
)  # fmt: skip
from afina.metrics.tags import PREFIXED, Tagging
from afina.models.inspect import inspect_model
from afina.models.resolve import resolve_model
from afina.pipeline.narrator import Narrator
from afina.pipeline.tagging.rows import count_types, find_loose_rows
from afina.wording import count

if TYPE_CHECKING:
    from afina.pipeline.check_model import ModelView

ROWS_SAMPLED = 5000
WHOLE_TOKENS = 10**9


def open_tagged(
    tables: Mapping[str, RowTable], config: RunConfig
) -> tuple[ColumnChoice, Subject, Mapping[str, UsableTags]]:
    """The columns, the rows as the doctor sees them, and which of them can be used."""
    columns = choose_tagged_columns(tables, config.data)
    space, usable = find_usable_tags(tables, columns)
    parts = (make_tagged_part(name, tables[name], columns, rows) for name, rows in usable.items())
    return columns, view_labelled(parts, columns, space), usable


def divide_tagged(
    tables: Mapping[str, RowTable], usable: Mapping[str, UsableTags], columns: ColumnChoice, subject: Subject,
    config: RunConfig,
) -> None:  # fmt: skip
    """Make the parts of a run.

    Raises:
        DataError: as training would.
    """
    faulty = count_faulty(next(iter(usable.values())))
    check_tags(next(iter(tables.values())), columns, get_space(subject), faulty)
    split_tagged(tables, usable, columns, len(get_space(subject).names), config.data, config.seed)


def get_parts(subject: Subject) -> dict[str, TaggedPart]:
    """The parts by name."""
    return {name: view.part for name, view in subject.views.items() if isinstance(view.part, TaggedPart)}


def get_space(subject: Subject) -> LabelSpace:
    """The tags of the training part."""
    assert subject.space is not None
    return subject.space


def count_all_types(subject: Subject) -> dict[str, dict[str, int]]:
    """Entities (or words) by type, for each part."""
    return {name: count_types(part, get_space(subject)) for name, part in get_parts(subject).items()}


def find_tag_faults(subject: Subject) -> list[Finding]:
    """What the tags tell: entities without a beginning, types with hardly an example, types under several names."""
    space, parts = get_space(subject), get_parts(subject)
    counts = count_types(parts[subject.training.name], space)
    unit = "entities" if space.kind == "entities" else "words"
    return [
        *describe_loose(parts, space),
        *describe_rare(subject, counts, unit),
        *describe_variants(subject, counts),
    ]


def describe_loose(parts: Mapping[str, TaggedPart], space: LabelSpace) -> list[Finding]:
    """Entities that go on without having begun."""
    rows = {name: find_loose_rows(part, space) for name, part in parts.items()}
    found = sum(map(len, rows.values()))
    if not found:
        return []
    return [
        Finding(
            "loose-tags",
            "hint",
            f"{count(found, 'row')} with an I- (or E-) that no B- of its type stands before",
            "it is read as the first word of an entity, as conlleval does; a beginning may have been lost",
            "look at some of them; write B- where an entity begins",
            found,
            {name: RowNumbers(each.tolist()) for name, each in rows.items() if len(each)},
        )
    ]


def describe_rare(subject: Subject, counts: Mapping[str, int], unit: str) -> list[Finding]:
    """Types with hardly an example to learn from."""
    variants = group_variants(counts)
    rare = {name: found for name, found in counts.items() if found < ROWS_LEAST and name not in variants}
    if not rare:
        return []
    listed = ", ".join(f"{name!r} ({found})" for name, found in list(rare.items())[:6])
    return [
        Finding(
            "rare-tags",
            "warning",
            f"{count(len(rare), 'type')} with fewer than {ROWS_LEAST} {unit} in {name_part(subject.training.name)}:"
            f" {listed}{', ...' if len(rare) > 6 else ''}",
            "a model hardly learns a type of a handful of examples, and no figure about it means anything",
            "add rows with them, join them with a kindred type, or write O",
            len(rare),
            {subject.training.name: number_rows(subject, set(rare))},
        )
    ]


def describe_variants(subject: Subject, counts: Mapping[str, int]) -> list[Finding]:
    """One type under several spellings."""
    variants = group_variants(counts)
    if not variants:
        return []
    spellings = list_names(f"{name} beside {best}" for name, best in variants.items())
    return [
        Finding(
            "tag-variants",
            "warning",
            f"types that differ only in case or spaces: {spellings}",
            "each spelling is a type of its own, and a model is wrong when it gives the other",
            "--fix OUT writes the commonest of each",
            len(variants),
            {subject.training.name: number_rows(subject, set(variants))},
        )
    ]


def number_rows(subject: Subject, types: set[str]) -> RowNumbers:
    """Numbers of the training rows with a tag of these types."""
    part, space = get_parts(subject)[subject.training.name], get_space(subject)
    is_plain = Tagging(space.names).is_plain
    wanted = [i for i, name in enumerate(space.names) if name_type(name, is_plain) in types]
    places = np.flatnonzero(np.isin(part.tags.tags, wanted))
    rows = np.unique(np.searchsorted(part.tags.offsets, places, side="right") - 1)
    return RowNumbers(part.row_numbers[rows].tolist())


def name_type(tag: str, is_plain: bool) -> str:
    """The type that a tag names; a plain tag is its own."""
    match = None if is_plain else PREFIXED.fullmatch(tag)
    return match[2] if match else tag


def look_at_words(config: RunConfig, subject: Subject, work: Path, narrator: Narrator) -> ModelView:
    """Lengths in the model's tokens of a sample of the training rows, spread evenly. Nothing is cut of long ones."""
    from afina.data.encode_words import encode_words
    from afina.models.load import load_tokenizer
    from afina.pipeline.check_model import ModelView

    base = resolve_model(str(config.model.reference), config.model.revision)
    inspect_model(base, TAGGING)
    part = get_parts(subject)[subject.training.name]
    places = np.unique(np.linspace(0, len(part) - 1, min(len(part), ROWS_SAMPLED)).astype(np.int64))
    with narrator.stage("tokenise"):
        sample = replace(part, indices=part.indices[places])
        lengths_N = encode_words(load_tokenizer(base), sample.words(), WHOLE_TOKENS, work / "whole").tokens.lengths
    said = f"a sample of {count(len(places), 'row')}" if len(places) < len(part) else ""
    return ModelView(
        [], {"tokens": {"quantiles": summarise(lengths_N), "cuts": tabulate_cuts(lengths_N), "sample": said}}
    )
