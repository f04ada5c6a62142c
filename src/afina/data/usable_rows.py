"""Which rows of a table can be used: those with a text and a label. The others are counted by reason.

Letters: N usable rows, C classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afina.data import labels as reasons
from afina.data.bad_rows import MEND, OR_DROP, RowNumbers
from afina.data.columns import ColumnChoice
from afina.data.labels import LabelSpace
from afina.data.rows import RowTable
from afina.data.split import Ints, hash_texts
from afina.errors import Problem

NO_TEXT = "no text"
NOT_TEXT = "a text that is a number, a list or an object"
EXPECTED = {
    NO_TEXT: "text that is more than white space",
    NOT_TEXT: "text",
    reasons.MISSING: "a label in each row",
    reasons.UNKNOWN: "labels that stand in the training part too: {names}",
    reasons.NO_NUMBER: "a number such as 3 or 0.5",
    reasons.NOT_FINITE: "a finite number such as 3 or 0.5",
    reasons.TOO_LARGE: "numbers whose squares fit into 32 bits",
    reasons.NO_LIST: 'a list of names such as ["a", "b"]',
    reasons.NO_NAME: "the name of a class",
}
NAMES_SHOWN = 20
REMEDIES = {
    reasons.NO_NUMBER: f"write a number into these rows{OR_DROP}",
    reasons.NOT_FINITE: f"write a number into these rows{OR_DROP}",
    reasons.TOO_LARGE: f"another unit or logarithms for the whole column, {MEND}",
}
Labels = NDArray[np.int64] | NDArray[np.float32] | NDArray[np.uint8]


@dataclass(slots=True)
class UsableRows:
    """The rows of one table that have a text and a label, and the reasons why others were left out."""

    indices: Ints
    """Positions in the table (N,), rising."""
    labels: Labels
    """Class numbers (N,), numbers to predict (N,), or 0 and 1 for each class (N, C).

    For conversations hashes of the whole rows (N,).
    """
    hashes: Ints
    """Equal for rows whose texts read the same (N,)."""
    digest: str
    """SHA-256 over texts and labels."""
    faults: dict[str, RowNumbers] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    """The value of the first row of each fault."""

    def problems(self, table: RowTable, choice: ColumnChoice, space: LabelSpace) -> list[Problem]:
        """What an error says of the rows that can't be used."""
        listed, known = [], ", ".join(space.names[:NAMES_SHOWN])
        for reason, faulty in self.faults.items():
            names = choice.text_names if reason in (NO_TEXT, NOT_TEXT) else (choice.label,)
            rows = table.leave_out_told(faulty, names)
            if not rows:
                continue
            where = f"{table.source}: rows with {reason} in {' or '.join(map(repr, names))}"
            expected, remedy = EXPECTED[reason].format(names=known), REMEDIES.get(reason, MEND)
            if reason == reasons.MISSING:
                remedy = space.spell_none + remedy
            listed.append(Problem(where, self.found[reason], expected, remedy, rows))
        return listed


def find_usable_rows(table: RowTable, choice: ColumnChoice, space: LabelSpace) -> UsableRows:
    """The usable rows of `table`, in one pass over its text and label columns."""
    scan = _Scan(table, choice, space)
    hashes_N = hash_texts(scan.texts())
    kept = slice(scan.count)
    return UsableRows(scan.indices[kept], scan.labels[kept], hashes_N, scan.digest.hexdigest(), scan.faults, scan.found)


def allocate_labels(rows: int, space: LabelSpace) -> Labels:
    """Room for the encoded labels of some rows."""
    if space.kind == "regression":
        return np.zeros(rows, np.float32)
    if space.kind == "multiclass":
        return np.zeros(rows, np.int64)
    return np.zeros((rows, len(space.names)), np.uint8)


class _Scan:
    """One pass over a table: yields the texts of usable rows and gathers all else about them."""

    def __init__(self, table: RowTable, choice: ColumnChoice, space: LabelSpace) -> None:
        self.table, self.choice, self.space = table, choice, space
        # Arrays with room for every row: a number in a list takes five times the bytes.
        self.indices = np.zeros(table.row_count, np.int64)
        self.labels = allocate_labels(table.row_count, space)
        self.count = 0
        self.digest = hashlib.sha256()
        self.faults: dict[str, RowNumbers] = {}
        self.found: dict[str, str] = {}

    def texts(self) -> Iterator[tuple[str, ...]]:
        write = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
        start = 0
        for columns in self.table.columns(*self.choice.text_names, self.choice.label):
            used = []
            for index, (*texts, label) in enumerate(zip(*columns, strict=True), start):
                fault = find_text_fault(texts)
                if fault is None:
                    try:
                        encoded = self.space.encode(label)
                    except ValueError as error:
                        self._add_fault(str(error), index, label)
                        continue
                    self._keep(index, encoded)
                    used.append((texts, label))
                    yield tuple(texts)
                else:
                    self._add_fault(fault, index, next(t for t in texts if find_text_fault([t])))
            start += len(columns[0])
            # Rows are separated by commas within a batch and after it: where batches end makes no difference.
            if used:
                self.digest.update(f"{write(used)[1:-1]},".encode())

    def _keep(self, index: int, encoded: int | float | list[int]) -> None:
        self.indices[self.count] = index
        if self.space.kind == "multilabel":
            self.labels[self.count, np.asarray(encoded, np.int64)] = 1
        else:
            self.labels[self.count] = encoded
        self.count += 1

    def _add_fault(self, reason: str, index: int, value: Any) -> None:
        if reason not in self.faults:
            self.faults[reason] = RowNumbers()
            shown = json.dumps(value, ensure_ascii=False)
            self.found[reason] = "an empty cell" if value is None else shown[:60]
        self.faults[reason].add(int(self.table.row_numbers[index]))


def find_text_fault(texts: list[Any]) -> str | None:
    """Why the texts of a row can't be used; None when they can."""
    for text in texts:
        if text is None:
            return NO_TEXT
        if not isinstance(text, str):
            return NOT_TEXT
        if not text.strip():
            return NO_TEXT
    return None
