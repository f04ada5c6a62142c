"""The parts that train, choose and test: those that the source brings, and those carved out of its first one.

The same for rows with labels, with a tag a word, and for conversations; each makes a part of its own kind of rows.
Letters: N usable rows of the first part.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any, TypeVar

import numpy as np

from afina.config.run import DataConfig
from afina.data.rows import RowTable
from afina.data.split import Ints, split_rows
from afina.data.usable_rows import UsableRows
from afina.errors import ConfigError, DataError, Problem
from afina.wording import count

PARTS = ("train", "validation", "test")
ROWS_LEAST = 8
ROWS_LISTED = 1000
FRACTIONS_MOST = 0.95
MORE_ROWS = "add rows, or give a folder with train.*, validation.* and test.*"

Rows = TypeVar("Rows", bound=UsableRows)
Made = TypeVar("Made")
Chosen = TypeVar("Chosen")


def check_fractions(config: DataConfig) -> None:
    """ConfigError when validation and test leave too little to train on."""
    held_out = config.validation_fraction + config.test_fraction
    if held_out > FRACTIONS_MOST:
        raise ConfigError(
            "data.validation_fraction and data.test_fraction leave too little to train on",
            found=f"{config.validation_fraction:g} + {config.test_fraction:g} = {held_out:g} of the rows",
            expected=f"at most {FRACTIONS_MOST:g} together",
            remedy="--set data.test_fraction=0.2",
        )


def explain_choice(
    tables: Mapping[str, RowTable], choose: Callable[[], Chosen], *, names_unread: bool = True
) -> Chosen:
    """What `choose` makes of the tables' columns.

    Args:
        names_unread: whether an error names the rows that can't be read, too: they may be why the others make no sense.
    """
    try:
        return choose()
    except DataError as error:
        unread = [p for table in tables.values() for p in table.problems_in(table.names)] if names_unread else []
        raise DataError(problems=[*unread, *error.problems]) from None


def carve_parts(
    tables: Mapping[str, RowTable], usable: Mapping[str, Rows], strata_N: Ints, config: DataConfig, seed: int,
    make: Callable[[str, RowTable, Rows, Ints | None], Made], noun: str = "text",
    add: str = "add rows",
) -> dict[str, Made]:  # fmt: skip
    """The three parts.

    Args:
        strata_N: what is spread evenly over the parts that are carved.
        make: gives a part from its name, its table, the usable rows of this, and which of them are meant (None: all).
        noun: what equal rows have in common.
        add: what to do where rows are too few.

    Raises:
        DataError: where there are too few rows for that.
    """
    first = next(iter(tables))
    rows, total = usable[first], len(usable[first].indices)
    if total < ROWS_LEAST:
        raise DataError(
            f"{tables[first].source}: too few rows to train and to test on", found=count(total, "row"),
            expected=f"at least {ROWS_LEAST} rows, and better some hundreds", remedy=add,
        )  # fmt: skip
    fractions = {"validation": config.validation_fraction, "test": config.test_fraction}
    carved = {name: fraction for name, fraction in fractions.items() if name not in tables}
    chosen = split_rows(rows.hashes, strata_N, {"train": 1.0 - sum(carved.values()), **carved}, seed)
    different = len(np.unique(rows.hashes))
    if different < len(chosen):
        raise DataError(
            f"{tables[first].source}: too few different {noun}s to train and to test on",
            found=f"{count(different, f'different {noun}')} in {count(total, 'row')}",
            expected=f"one for each part at least, since rows with the same {noun} stay on one side",
            remedy=MORE_ROWS,
        )  # fmt: skip
    return {
        name: make(name, tables[first], rows, chosen[name]) if name in chosen
        else make(name, tables[name], usable[name], None)
        for name in PARTS
    }  # fmt: skip


def check_filled(parts: Mapping[str, Sized], source: str, noun: str) -> None:
    """Refuse parts without a row, since training keeps one of each kind.

    Args:
        noun: what it keeps one row of each of.

    Raises:
        DataError: naming one of them.
    """
    if empty := [name for name, part in parts.items() if not len(part)]:
        raise DataError(
            f"{source}: no row is left for the {empty[0]} part",
            found=f"{count(len(parts['train']), 'row')} to train on, which keep one of each {noun}",
            expected="several rows of each", remedy=MORE_ROWS,
        )  # fmt: skip


def list_problems(tables: Mapping[str, RowTable], names: Iterable[str]) -> list[Problem]:
    """What is wrong with the rows of all parts for whoever needs these columns."""
    return [problem for table in tables.values() for problem in table.problems_in(list(names))]


def count_rows(tables: Mapping[str, RowTable], usable: Mapping[str, UsableRows]) -> dict[str, Any]:
    """`read`, `used`, and `dropped`: by reason the count, and by part the first 1,000 row numbers."""
    dropped: dict[str, Any] = {}
    for part, table in tables.items():
        structural = {p.what.removeprefix(f"{table.source}: "): p.rows for p in table.problems}
        faults = {f"rows with {reason}": rows for reason, rows in usable[part].faults.items()}
        for reason, rows in {**structural, **faults}.items():
            entry = dropped.setdefault(reason, {"count": 0, "rows": {}})
            entry["count"] += len(rows)
            entry["rows"][part] = list(rows[:ROWS_LISTED])
    used = sum(len(rows.indices) for rows in usable.values())
    return {"read": sum(table.read_count for table in tables.values()), "used": used, "dropped": dropped}


def hash_rows(usable: Mapping[str, UsableRows]) -> str:
    """SHA-256 over the rows used, part by part of the source."""
    text = "".join(f"{name} {rows.digest}\n" for name, rows in usable.items())
    return hashlib.sha256(text.encode()).hexdigest()


def describe_source(source: Any) -> str:
    """The path or the id as given, or the type of a Python object."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else f"a {type(source).__name__} in Python"
