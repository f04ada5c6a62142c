"""From the user's file to the conversations that train, choose and test: read, choose columns, check, split.

Every bad row of every part is named in one error; under `data.on_bad_rows=drop` bad rows are left out and
counted instead. Parts that the data brings are kept as they are; what is missing is carved out of the training
part, and rows with the same prompt stay on one side. Rows are read in batches and never held all at once.

Letters: N rows.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from afina.config.reason import Reason
from afina.config.run import DataConfig
from afina.data.bad_rows import MEND, RowNumbers
from afina.data.conversation_columns import (
    ANY_FLAGS,
    ConversationColumns,
    choose_conversation_columns,
)
from afina.data.conversation_rows import ConversationFaultError, find_prompt, normalize_row, write_json
from afina.data.data_notes import note_dropped, note_unread
from afina.data.parts import (
    carve_parts,
    check_fractions,
    count_rows,
    describe_source,
    explain_choice,
    hash_rows,
    list_problems,
)
from afina.data.rows import RowTable
from afina.data.split import Ints, hash_texts
from afina.data.usable_rows import UsableRows
from afina.errors import DataError, Problem
from afina.wording import count

SPLIT_TEXTS = "add rows; in a .txt what stands between two blank lines is a row, without blank lines each line"


@dataclass(frozen=True)
class ConversationPart:
    """The rows that train, choose the checkpoint, or test. They stay on disk."""

    name: str
    table: RowTable
    columns: ConversationColumns
    indices: Ints
    """Positions in the table (N,), rising."""
    hashes: Ints
    """Equal for rows whose prompts read the same (N,)."""
    row_hashes: Ints
    """Equal for rows that are the same from end to end (N,)."""

    @property
    def row_numbers(self) -> Ints:
        """Numbers of the rows in the user's file (N,)."""
        return self.table.row_numbers[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def rows(self, batch_size: int = 1000) -> Iterator[list[dict[str, Any]]]:
        """Batches of rows as `normalize_row` writes them, in the order of `indices`."""
        names = _names_in(self.table, self.columns)
        for start in range(0, len(self.indices), batch_size):
            cells = self.table.take(self.indices[start : start + batch_size], list(names.values()))
            values = zip(*(cells[name] for name in names.values()), strict=True)
            yield [normalize_row(dict(zip(names, row, strict=True)), self.columns) for row in values]


@dataclass(frozen=True)
class Conversations:
    """All that training a language model needs to know about the data."""

    parts: dict[str, ConversationPart]
    """`train`, `validation` and `test`."""
    columns: ConversationColumns
    reasons: tuple[Reason, ...]
    """Choices that were made for the user."""
    notes: tuple[str, ...]
    """What was skipped, dropped or looks odd."""
    counts: dict[str, Any]
    """Rows `read`, `used`, and `dropped` by reason with their numbers, see `parts.count_rows`."""
    source: str
    """Name of the source, for messages and records."""
    data_hash: str
    """SHA-256 over the rows used, as they are trained on, part by part of the source."""


def load_conversations(
    source: Any, config: DataConfig, seed: int, tables: Mapping[str, RowTable], **flags: str | None
) -> Conversations:
    """Conversations from the tables that `read_parts` made of `source`. DataError lists all that is wrong at once.

    Args:
        flags: columns that the user names, see `choose_conversation_columns`.
    """
    check_fractions(config)
    tables = dict(tables)
    is_strict = config.on_bad_rows == "fail"
    named = {"text_column": config.text_column, **flags}
    columns = explain_choice(tables, lambda: choose_conversation_columns(tables, **named), names_unread=is_strict)
    usable, problems = {}, list_problems(tables, columns.names.values())
    for name, table in tables.items():
        usable[name], found = find_usable_conversations(table, columns)
        problems += found
    if is_strict and problems:
        raise DataError(problems=problems)
    parts = divide_conversations(tables, usable, columns, config, seed)
    counts = count_rows(tables, usable)
    notes = [note for table in tables.values() for note in table.notes] + note_dropped(counts)
    notes += [*note_unread(tables, columns.names.values()), _note_parts(parts, tables, seed)]
    return Conversations(
        parts, columns, columns.reasons, tuple(notes), counts, describe_source(source), hash_rows(usable)
    )


def find_usable_conversations(table: RowTable, columns: ConversationColumns) -> tuple[UsableRows, list[Problem]]:
    """The usable rows of a table, and what is wrong with the others."""
    scan = _Scan(table, columns)
    return scan.run(), scan.problems()


def _names_in(table: RowTable, columns: ConversationColumns) -> dict[str, str]:
    """Columns by role, without the optional ones that this table lacks."""
    return {role: name for role, name in columns.names.items() if name in table.kinds}


class _Scan:
    """One pass over a table that finds the usable rows, and what is wrong with the others."""

    def __init__(self, table: RowTable, columns: ConversationColumns) -> None:
        self.table, self.columns = table, columns
        self.indices = array("q")
        self.digest = hashlib.sha256()
        self.row_hashes = bytearray()
        self.faults: dict[str, RowNumbers] = {}
        self.first: dict[str, ConversationFaultError] = {}

    def run(self) -> UsableRows:
        hashes_N = hash_texts(self._prompts())
        indices_N = np.array(self.indices, np.int64)
        found = {reason: fault.found for reason, fault in self.first.items()}
        wholes_N = np.frombuffer(bytes(self.row_hashes), dtype="<i8").astype(np.int64)
        return UsableRows(indices_N, wholes_N, hashes_N, self.digest.hexdigest(), self.faults, found)

    def _prompts(self) -> Iterator[tuple[str, ...]]:
        names = _names_in(self.table, self.columns)
        values = (row for batch in self.table.columns(*names.values()) for row in zip(*batch, strict=True))
        for index, cells in enumerate(values):
            try:
                row = normalize_row(dict(zip(names, cells, strict=True)), self.columns)
            except ConversationFaultError as fault:
                self.first.setdefault(fault.reason, fault)
                self.faults.setdefault(fault.reason, RowNumbers()).add(int(self.table.row_numbers[index]))
                continue
            self.indices.append(index)
            written = f"{write_json(row)}\n".encode()
            self.digest.update(written)
            self.row_hashes += hashlib.blake2b(written, digest_size=8).digest()
            yield find_prompt(row)

    def problems(self) -> list[Problem]:
        listed = []
        for reason, fault in self.first.items():
            name = self.columns.names[fault.role]
            where = f"{self.table.source}: rows with {reason} in {name!r}"
            if rows := self.table.leave_out_told(self.faults[reason], [name]):
                listed.append(Problem(where, fault.found, fault.expected, MEND, rows))
        return listed


def divide_conversations(
    tables: Mapping[str, RowTable], usable: Mapping[str, UsableRows], columns: ConversationColumns, config: DataConfig,
    seed: int,
) -> dict[str, ConversationPart]:  # fmt: skip
    """The parts that train, choose and test. Checking data asks for them too, so that it refuses what training does.

    DataError where there are too few rows, or too few different prompts, for that.
    """
    for name, table in tables.items():
        _check_left(table, usable[name])
    first = next(iter(tables))
    strata_N = np.zeros(len(usable[first].indices), dtype=np.int64)
    return carve_parts(
        tables, usable, strata_N, config, seed,
        lambda name, table, rows, picks_N: make_part(name, table, columns, rows, picks_N), noun="prompt",
        add=SPLIT_TEXTS if columns.form == "text" else "add rows",
    )  # fmt: skip


def _check_left(table: RowTable, rows: UsableRows) -> None:
    if not len(rows.indices):
        raise DataError(
            f"{table.source}: no row can be used",
            found=", ".join(f"{count(len(numbers), 'row')} with {reason}" for reason, numbers in rows.faults.items()),
            expected="rows with something to learn",
            remedy=ANY_FLAGS,
        )


def make_part(
    name: str, table: RowTable, columns: ConversationColumns, rows: UsableRows, picks_N: Ints | None = None
) -> ConversationPart:
    """The part that holds the usable rows of a table, or those at `picks_N` among them."""
    picks_N = np.arange(len(rows.indices)) if picks_N is None else picks_N
    row_hashes_N = rows.labels[picks_N].astype(np.int64)
    return ConversationPart(name, table, columns, rows.indices[picks_N], rows.hashes[picks_N], row_hashes_N)


def _note_parts(parts: Mapping[str, ConversationPart], tables: Mapping[str, RowTable], seed: int) -> str:
    """How the rows were divided."""
    sizes = ", ".join(f"{name} {count(len(part), 'row')}" for name, part in parts.items())
    carved = " and ".join(name for name in parts if name not in tables and name != "train")
    how = f"; {carved} chosen with seed {seed}, equal prompts on one side" if carved else ", as the data brings them"
    return f"parts: {sizes}{how}"
