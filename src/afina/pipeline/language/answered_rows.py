"""Every row of a file with the answer to it: all prompts are checked first, then answered in batches of like length.

Letters: N rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from afina.data.chat_template import ChatFaultError
from afina.data.conversation_rows import RowFaultError
from afina.data.findings import RowNumbers
from afina.data.rows import RowTable
from afina.errors import Problem
from afina.pipeline.language.answers import plan_batches
from afina.pipeline.language.decoding import Decoding
from afina.pipeline.language.prompts import PromptReader
from afina.pipeline.language.speaker import Speaker
from afina.pipeline.predictor import iterate_chunks, open_rows, refuse_problems

# Rows among which those of like length are answered together.
WINDOW_ROWS = 1024
MEND = "mend these rows"


def answer_rows(speaker: Speaker, source: Any, decoding: Decoding) -> Iterator[dict[str, Any]]:
    """Every row with its columns and `prediction`; a row that asks nothing gets None.

    Raises:
        DataError: before the first answer, with every row that can't be read or put into the template.
    """
    with open_rows(source) as rows:
        table, reader = rows.table, speaker.reader.fit_to(rows.table)
        lengths_N = measure_prompts(speaker, reader, table)
        answers: dict[int, str] = {}
        for places in plan_file(lengths_N):
            answers |= speaker.answer_batch(encode_rows(speaker, reader, table, places), decoding)
        place = 0
        for columns in iterate_chunks(table):
            for values in zip(*columns.values(), strict=True):
                yield {**dict(zip(columns, values, strict=True)), "prediction": answers.get(place)}
                place += 1


def measure_prompts(speaker: Speaker, reader: PromptReader, table: RowTable) -> npt.NDArray[np.int64]:
    """Tokens of each row's prompt, shape (N,); 0 for a row that asks nothing.

    Raises:
        DataError: with every row that can't be used.
    """
    lengths, faults, found = [], dict[str, RowNumbers](), dict[str, str]()
    numbers = iter(table.row_numbers)
    for columns in iterate_chunks(table):
        for values in zip(*columns.values(), strict=True):
            number = int(next(numbers))
            try:
                lengths.append(len(encode_row(speaker, reader, dict(zip(columns, values, strict=True)))))
            except (RowFaultError, ChatFaultError) as fault:
                faults.setdefault(str(fault), RowNumbers()).add(number)
                found.setdefault(str(fault), fault.found if isinstance(fault, RowFaultError) else fault.detail)
    named = [
        Problem(f"{table.source}: rows with {reason}", found[reason], "", MEND, rows) for reason, rows in faults.items()
    ]
    refuse_problems([*table.problems, *named])
    return np.asarray(lengths, np.int64)


def encode_row(speaker: Speaker, reader: PromptReader, row: dict[str, Any]) -> list[int]:
    """The tokens of what a row asks; none where it asks nothing."""
    asked = reader.read(row)
    return speaker.encode(*asked) if asked else []


def encode_rows(speaker: Speaker, reader: PromptReader, table: RowTable, places: list[int]) -> dict[int, list[int]]:
    """The prompts at these places of the table."""
    columns = table.take(np.asarray(places), list(table.names))
    rows = zip(*columns.values(), strict=True)
    return {
        place: encode_row(speaker, reader, dict(zip(columns, values, strict=True)))
        for place, values in zip(places, rows, strict=True)
    }


def plan_file(lengths_N: npt.NDArray[np.int64]) -> Iterator[list[int]]:
    """Places of the rows of each batch, the same whenever the same file is answered."""
    asked = np.flatnonzero(lengths_N).tolist()
    for start in range(0, len(asked), WINDOW_ROWS):
        window = asked[start : start + WINDOW_ROWS]
        for batch in plan_batches([int(lengths_N[place]) for place in window]):
            yield [window[i] for i in batch]
