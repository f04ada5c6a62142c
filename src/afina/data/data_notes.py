"""Sentences about the data that the user should read: what was left out, what stands twice, how it was
divided.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from afina.data.findings import count
from afina.data.labels import LabelKind, LabelSpace
from afina.data.split import Ints
from afina.data.usable_rows import Labels, UsableRows

CLASSES_SHOWN = 5
STRATA: dict[LabelKind, str] = {
    "multiclass": "label",
    "multilabel": "the rarest label of each row",
    "regression": "size of the number, in tenths of the rows",
}
"""What `split_rows` keeps in the same proportion in every part."""


def note_dropped(counts: Mapping[str, Any]) -> list[str]:
    """What was left out, by reason."""
    return [f"{count(entry['count'], 'row')} dropped: {reason}" for reason, entry in counts["dropped"].items()]


def note_duplicates(usable: dict[str, UsableRows], space: LabelSpace) -> list[str]:
    """Notes on texts that stand on two sides of the data's own parts, or have two labels."""
    first = next(iter(usable))
    notes = []
    for name in ("validation", "test"):
        if name in usable:
            shared = int(np.isin(usable[name].hashes, usable[first].hashes).sum())
            if shared:
                rows = f"{count(shared, 'row')} of the {name} part"
                notes.append(f"texts that stand in the training part too: {rows}; its figures may flatter")
    if space.kind == "multiclass":
        torn = count_torn(usable[first].hashes, usable[first].labels)
        if torn:
            notes.append(f"{count(torn, 'text')} of the training data have more than one label")
    return notes


def count_torn(hashes_N: Ints, labels_N: Labels) -> int:
    """How many texts have more than one label."""
    order_N = np.lexsort((labels_N, hashes_N))
    hashes_N, labels_N = hashes_N[order_N], labels_N[order_N]
    is_torn = (hashes_N[1:] == hashes_N[:-1]) & (labels_N[1:] != labels_N[:-1])
    return len(np.unique(hashes_N[1:][is_torn]))


def note_absent(class_counts: dict[str, dict[str, int]]) -> list[str]:
    """A note on classes that nothing can be learned of."""
    absent = [name for name, rows in class_counts["train"].items() if not rows]
    return [f"classes without a row to train on: {', '.join(map(repr, absent[:CLASSES_SHOWN]))}"] if absent else []


def note_parts(sizes_by_part: Mapping[str, int], tables: Collection[str], seed: int, kind: LabelKind) -> str:
    """How the rows were divided."""
    sizes = ", ".join(f"{name} {count(rows, 'row')}" for name, rows in sizes_by_part.items())
    carved = [name for name in sizes_by_part if name not in tables and name != "train"]
    if not carved:
        return f"parts: {sizes}, as the data brings them"
    what = " and ".join(carved)
    return f"parts: {sizes}; {what} chosen with seed {seed}, stratified by {STRATA[kind]}, equal texts on one side"
