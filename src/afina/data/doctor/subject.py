"""What the doctor looks at: the usable rows of each part, their hashes, and their texts in batches.

Memory is that of a few numbers a row; texts stay on disk. Letters: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from afina.data.bad_rows import RowNumbers
from afina.data.columns import ColumnChoice
from afina.data.conversation_columns import ConversationColumns
from afina.data.conversations import ConversationPart
from afina.data.doctor.finding import EXAMPLES_SHOWN, Example, shorten
from afina.data.examples import Part
from afina.data.labels import LabelSpace
from afina.data.rows import RowTable
from afina.data.split import Ints
from afina.data.usable_rows import Labels, UsableRows
from afina.errors import Problem

Kind = Literal["multiclass", "multilabel", "regression", "conversations", "entities", "tags"]
Bools = NDArray[np.bool_]
HASH_SEED = 0x5EED


@dataclass(frozen=True)
class Batch:
    """Some rows of one part, as they follow each other."""

    part: str
    start: int
    """Place of the first of them among the part's usable rows."""
    texts: Sequence[str]
    """What is read of each row: the text, both texts of a pair, or all texts of a conversation."""
    rows: Sequence[Mapping[str, Any]] = ()
    """Conversations as `normalize_row` writes them; empty for labelled rows."""


@dataclass(frozen=True)
class View:
    """The usable rows of one part."""

    part: Part | ConversationPart

    @property
    def name(self) -> str:
        return self.part.name

    def __len__(self) -> int:
        return len(self.part)

    @cached_property
    def numbers(self) -> Ints:
        """Numbers of the rows in the user's file (N,)."""
        return self.part.row_numbers

    @property
    def inputs(self) -> Ints:
        """Hashes (N,), equal for rows that give the model the same to read: texts, or the prompt of a conversation."""
        return self.part.hashes

    @property
    def labels(self) -> Labels:
        """As in `UsableRows`; empty for conversations."""
        return self.part.labels if isinstance(self.part, Part) else np.zeros(0, np.int64)

    @cached_property
    def targets(self) -> Ints:
        """Equal for rows that are to be answered the same (N,): numbers of classes, or hashes."""
        return hash_labels(self.part.labels) if isinstance(self.part, Part) else self.part.row_hashes

    def batches(self, places: Ints | None = None) -> Iterator[Batch]:
        """The rows in batches, or those at `places`."""
        part = self.part if places is None else replace(self.part, indices=self.part.indices[places])
        start = 0
        if isinstance(part, Part):
            for texts in part.texts():
                yield Batch(self.name, start, [text if isinstance(text, str) else "\n".join(text) for text in texts])
                start += len(texts)
        else:
            for rows in part.rows():
                yield Batch(self.name, start, [join_texts(row) for row in rows], rows)
                start += len(rows)

    def texts(self, places: Ints) -> list[str]:
        """What is read of the rows at `places`, in their order."""
        return [text for batch in self.batches(places) for text in batch.texts]

    def number_rows(self, places: Ints | Bools) -> RowNumbers:
        """The numbers of the rows at `places`."""
        return RowNumbers(sorted(self.numbers[places].tolist()))

    def examples(self, places: Ints | Bools) -> tuple[Example, ...]:
        """The first of the rows at `places`, as people see them."""
        first: Ints = (np.flatnonzero(places) if places.dtype == bool else places)[:EXAMPLES_SHOWN].astype(np.int64)
        pairs = zip(self.numbers[first].tolist(), self.texts(first), strict=True)
        return tuple(Example(self.name, row, shorten(text)) for row, text in pairs)


@dataclass(frozen=True)
class Subject:
    """The data as the checks see it."""

    kind: Kind
    views: Mapping[str, View]
    """By part; the first is the training part, or the only table."""
    space: LabelSpace | None = None
    """The labels, where there are some."""
    columns: tuple[str, ...] = ()
    """Columns that are used."""
    unread: Mapping[str, Sequence[Problem]] = field(default_factory=dict)
    """Rows that can't be read, by part."""
    faults: Mapping[str, Mapping[str, RowNumbers]] = field(default_factory=dict)
    """Rows that can be read but not used, by part and reason."""
    found: Mapping[str, str] = field(default_factory=dict)
    """The value of the first row of each such reason."""

    def with_faults(self, tables: Mapping[str, RowTable], usable: Mapping[str, UsableRows]) -> Subject:
        """The same, with what is known of the rows that can't be read or used."""
        return replace(
            self,
            unread={name: found for name, table in tables.items() if (found := table.problems_in(self.columns))},
            faults={name: rows.faults for name, rows in usable.items() if rows.faults},
            found={reason: found for rows in usable.values() for reason, found in rows.found.items()},
        )

    @property
    def training(self) -> View:
        return next(iter(self.views.values()))

    @property
    def held_out(self) -> tuple[View, ...]:
        """The parts that aren't learned from."""
        return tuple(self.views.values())[1:]

    @property
    def names(self) -> tuple[str, ...]:
        """Class names."""
        return self.space.names if self.space else ()

    @property
    def is_labelled(self) -> bool:
        return self.kind != "conversations"


def view_labelled(parts: Iterable[Part], choice: ColumnChoice, space: LabelSpace) -> Subject:
    """Rows with a label each."""
    views = {part.name: View(part) for part in parts}
    return Subject(space.kind, views, space, (*choice.text_names, choice.label))


def view_conversations(parts: Iterable[ConversationPart], columns: ConversationColumns) -> Subject:
    """Rows that a language model learns."""
    return Subject("conversations", {part.name: View(part) for part in parts}, None, tuple(columns.names.values()))


def hash_labels(labels: Labels) -> Ints:
    """Numbers (N,) that are equal for equal labels: class numbers, the bits of a decimal, or a hash of the marks."""
    if labels.ndim == 2:
        weights_C = np.asarray(np.random.PCG64(HASH_SEED).random_raw(labels.shape[1])).astype(np.int64)
        return labels.astype(np.int64) @ weights_C
    return labels.view(np.int32).astype(np.int64) if labels.dtype == np.float32 else labels.astype(np.int64)


def join_texts(row: Mapping[str, Any]) -> str:
    """All that is said in a conversation, turn by turn."""
    if "messages" not in row:
        return "\n".join(text for text in row.values() if text)
    return "\n".join(text for message in row["messages"] if (text := text_of(message)))


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message; empty where it calls a tool or holds something else."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def combine(inputs: Ints, targets: Ints) -> NDArray[np.uint64]:
    """One hash (N,) of what is read and what is answered."""
    with np.errstate(over="ignore"):
        return inputs.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ targets.view(np.uint64)


def find_repeats(keys: NDArray[Any]) -> Bools:
    """Which rows (N,) have a key that an earlier row has."""
    is_repeat = np.ones(len(keys), bool)
    is_repeat[np.unique(keys, return_index=True)[1]] = False
    return is_repeat
