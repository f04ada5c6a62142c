"""Sentences about the data that the user should read: what was left out, and how it was divided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from afina.data.column_profile import profile_columns, sample_columns
from afina.data.labels import LabelKind, LabelSpace
from afina.data.part_files import PART_NAMES
from afina.data.rows import RowTable
from afina.data.task_choice import SEPARATORS
from afina.wording import count, quote_name

CLASSES_SHOWN = 5
ROWS_SHOWN = 10
WHOLE = ("all", "train")
"""Parts whose rows are just called rows."""
REFUSED = {"reject", "ignore"}
ANNOTATIONS = {"accept", *REFUSED}
"""What Prodigy writes of each row."""
STRATA: dict[LabelKind, str] = {
    "multiclass": "label",
    "multilabel": "the rarest label of each row",
    "regression": "size of the number, in tenths of the rows",
    "entities": "the rarest tag of each row",
    "tags": "the rarest tag of each row",
}
"""What `split_rows` keeps in the same proportion in every part."""


def note_dropped(counts: Mapping[str, Any]) -> list[str]:
    """What was left out, by reason, with the first row numbers."""
    return [
        f"{count(entry['count'], 'row')} dropped: {reason} ({list_numbers(entry['rows'])})"
        for reason, entry in counts["dropped"].items()
    ]


def list_numbers(rows: Mapping[str, Sequence[int]]) -> str:
    """`row 4`, or `rows 4, 9, ...; test row 3` for rows by part."""
    listed = []
    for part, numbers in rows.items():
        shown = ", ".join(f"{number:,}" for number in numbers[:ROWS_SHOWN])
        where = "" if part in WHOLE else f"{part} "
        listed.append(f"{where}row{'s' * (len(numbers) > 1)} {shown}{', ...' * (len(numbers) > ROWS_SHOWN)}")
    return "; ".join(each for each, numbers in zip(listed, rows.values(), strict=True) if numbers)


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


def note_joined(space: LabelSpace) -> list[str]:
    """A note on classes that look like several labels in one cell: whose pieces stand in other cells, too."""
    if space.kind != "multiclass" or space.values != "text":
        return []
    for separator in SEPARATORS:
        joined = [name for name in space.names if separator in name]
        pieces = Counter(piece.strip() for name in space.names for piece in name.split(separator))
        if len(joined) > 1 and all(pieces[each.strip()] > 1 for name in joined for each in name.split(separator)):
            return [
                f"classes such as {joined[0]!r} look like several labels of one row;"
                f" --label-separator '{separator}' reads them so"
            ]
    return []


def note_other_texts(table: RowTable, read: Collection[str]) -> list[str]:
    """A note on a column of texts that isn't read.

    Args:
        read: names of the columns that are: of the label, and of one text or two.
    """
    if len(read) > 2:
        return []
    others = [
        each.name for each in profile_columns(table).values()
        if each.is_prose and " " in each.example and each.name not in read
    ]  # fmt: skip
    return [
        f"{name!r} holds texts, too, and isn't read; --text-pair-column {quote_name(name)} reads both"
        for name in others[:1]
    ]


def note_unread(tables: Mapping[str, RowTable], read: Collection[str]) -> list[str]:
    """Columns that say which rows are meant for what, and that nothing here reads: parts, and what a person refused.

    Args:
        read: names of the columns that are.
    """
    notes = []
    table = next(iter(tables.values()))
    for name, values in sample_columns(table).items():
        found = {value.strip().lower() for value in values if isinstance(value, str)}
        if name in read or not found:
            continue
        if found <= PART_NAMES.keys() and len(found) > 1:
            notes.append(f"the column {name!r} names parts and isn't read: write each of them as a file of its own")
        elif "reject" in found and found <= ANNOTATIONS:
            rejected = sum(str(value).strip().lower() in REFUSED for value in table.column(name))
            notes.append(f"learned from, too: {count(rejected, 'row')} that {name!r} says to leave out")
    return notes
