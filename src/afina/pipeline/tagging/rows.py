"""Rows of words: read, their scheme told, their types counted, and turned into windows of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from afina.config.reason import Reason
from afina.config.run import RunConfig
from afina.data.examples import Examples, load_examples
from afina.data.labels import LabelSpace
from afina.data.tagged_rows import TaggedPart, load_tagged
from afina.metrics.tags import Tagging, find_entities, find_scheme
from afina.pipeline.narrator import Narrator
from afina.pipeline.source import Opened
from afina.wording import count

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from afina.data.encode_words import TaggedTokens

ROWS_SHOWN = 10
SCHEMES = {
    "BIO": "an entity begins with B- and goes on with I-",
    "IOB1": "an entity is I-, and B- only where another of its type ends just before",
    "BIOES": "an entity is B-, I-, E-, or S- alone",
    "BILOU": "an entity is B-, I-, L-, or U- alone",
    "plain": "tags have no prefix such as B-, so each word is scored for itself",
}


def read_examples(config: RunConfig, opened: Opened) -> Examples:
    """The rows, checked and split: with a tag for each word, or a label each.

    Raises:
        DataError: with all that is wrong with them.
    """
    if not opened.is_tagging:
        return load_examples(opened.source, config.data, config.task, config.seed, opened.tables)
    examples = load_tagged(opened.source, config.data, config.seed, opened.tables)
    parts: Mapping[str, TaggedPart] = examples.parts  # type: ignore[assignment]
    scheme, notes = describe_scheme(parts["train"], examples.labels)
    if opened.facts.architecture == "decoder":
        notes.append(
            "the model reads from left to right: a tag doesn't see what stands after its word, an encoder does"
        )
    counts = {name: count_types(part, examples.labels) for name, part in parts.items()}
    return replace(examples, reasons=(*examples.reasons, scheme), notes=(*examples.notes, *notes), class_counts=counts)


def describe_scheme(train: TaggedPart, space: LabelSpace) -> tuple[Reason, list[str]]:
    """The scheme of the tags with its meaning, and what there is to say of tags that don't follow it."""
    found = find_scheme(Tagging(space.names), train.tags.tags, train.tags.offsets)
    rows, words = find_loose_rows(train, space), int(found.loose_K.sum())
    notes = []
    if words:
        shown = ", ".join(map(str, rows[:ROWS_SHOWN].tolist())) + (", ..." if len(rows) > ROWS_SHOWN else "")
        notes.append(
            f"train: {count(words, 'word')} with an I- (or E-) that no B- of its type stands before, in"
            f" {count(len(rows), 'row')} ({shown}): read as the first of an entity, as conlleval does"
        )
    return Reason("tags", found.scheme, SCHEMES[found.scheme]), notes


def find_loose_rows(part: TaggedPart, space: LabelSpace) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Numbers of the rows in which a tag goes on with an entity that none has begun."""
    loose_K = find_scheme(Tagging(space.names), part.tags.tags, part.tags.offsets).loose_K
    places = np.searchsorted(part.tags.offsets, np.flatnonzero(loose_K), side="right") - 1
    return part.row_numbers[np.unique(places)]


def count_types(part: TaggedPart, space: LabelSpace) -> dict[str, int]:
    """Entities of each type, or of plain tags the words with each."""
    tagging = Tagging(space.names)
    found = find_entities(tagging, part.tags.tags, part.tags.offsets)
    counts = np.bincount(found.type, minlength=len(tagging.types))
    return dict(zip(tagging.types, counts.tolist(), strict=True))


def encode_tagged(
    part: TaggedPart, tokenizer: PreTrainedTokenizerBase, max_seq_length: int, folder: Path, narrator: Narrator
) -> TaggedTokens:
    """The windows of one part, written to `folder`, telling which rows have several."""
    from afina.data.encode_words import TaggedTokens, encode_words

    words = encode_words(tokenizer, part.words(), max_seq_length, folder)
    windowed = len(words.windowed)
    if windowed:
        narrator.note(
            f"{part.name}: {windowed:,} of {len(part):,} rows are longer than {max_seq_length} tokens and are read in"
            f" windows that overlap, {len(words.tokens):,} in all; each word has its tag in one of them"
        )
    if len(words.unread):
        numbers = part.row_numbers[np.asarray(list(words.unread), np.int64)].tolist()
        narrator.note(
            f"{part.name}: {count(len(words.unread), 'row')} with a word of which the tokenizer makes nothing, read as"
            f" its unknown token: rows {', '.join(map(str, numbers[:ROWS_SHOWN]))}"
        )
    return TaggedTokens(part.name, words.tokens, part.tags, part.row_numbers, words)  # type: ignore[arg-type]
