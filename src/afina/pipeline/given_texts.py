"""Texts that are handed over in Python: a list, an array, a column, a frame, or mappings by name of column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from afina.data.cells import holds_surrogate
from afina.data.tables import to_plain
from afina.errors import DataError, Problem


def list_given(given: Any, verb: str, noun: str) -> list[Any]:
    """What was handed over, in its order; of a frame each row as a mapping.

    Args:
        verb: the function it was handed to, for the message.
        noun: what one entry is.

    Raises:
        DataError: for one string or one mapping alone, for what holds nothing to go through, and for a frame with two
            columns of one name.
    """
    if hasattr(given, "itertuples") and hasattr(given, "columns"):  # of pandas
        names = [str(name) for name in given.columns]
        check_names(names)
        rows = (dict(zip(names, row, strict=True)) for row in given.itertuples(index=False, name=None))
        return [to_plain(row) for row in rows]
    if hasattr(given, "to_dicts"):  # of polars
        return [to_plain(row) for row in given.to_dicts()]
    if hasattr(given, "to_pylist"):  # of pyarrow
        return [to_plain(each) for each in given.to_pylist()]
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        found = "one string" if isinstance(given, str) else f"one object of type {type(given).__name__}"
        raise DataError(
            f"{verb} takes a list of {noun}s", found=found,
            expected="a list, a pandas frame or series, or mappings by name of column", remedy=f"run.{verb}([{noun}])",
        )  # fmt: skip
    return [to_plain(each) for each in given]


def check_names(names: Sequence[str]) -> None:
    """Refuse a frame of which a row as a mapping would lose columns.

    Raises:
        DataError: with the names that several columns have.
    """
    repeated = sorted(name for name, times in Counter(names).items() if times > 1)
    if repeated:
        raise DataError(
            "the data frame has several columns of one name", found=", ".join(map(repr, repeated)),
            expected="a name of its own for each", remedy="rename these columns, or leave all but one of them out",
        )  # fmt: skip


def take_texts(rows: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """The rows with each mapping replaced by its text, or by the texts of its pair; other rows as they are.

    Args:
        names: of the text column, or of the two columns of a pair.

    Raises:
        DataError: if a mapping hasn't these columns.
    """
    return [take_text(row, number, names) if isinstance(row, Mapping) else row for number, row in enumerate(rows, 1)]


def take_text(row: Mapping[str, Any], number: int, names: Sequence[str]) -> Any:
    """The text of one mapping, or the texts of its pair."""
    missing = [name for name in names if name not in row]
    if missing:
        raise DataError(
            f"row {number} has no column {' or '.join(map(repr, missing))}",
            found=", ".join(map(repr, row)) or "no columns",
            expected=f"the columns the model has learned from: {', '.join(map(repr, names))}",
        )
    texts = tuple(row[name] for name in names)
    return texts if len(names) == 2 else texts[0]


def check_unicode(texts: Sequence[str | Sequence[str]]) -> None:
    """Refuse texts, or pairs of them, that hold half of a surrogate pair, which no tokenizer takes.

    Raises:
        DataError: with the numbers of all such texts.
    """
    wrong = [number for number, text in enumerate(texts, 1) if holds_surrogate("".join(text))]
    if wrong:
        problem = Problem(
            "some of the texts hold half of a surrogate pair", repr(texts[wrong[0] - 1])[:80],
            "text that UTF-8 can hold", 'text.encode("utf-8", "replace").decode()', wrong,
        )  # fmt: skip
        raise DataError(problems=[problem])
