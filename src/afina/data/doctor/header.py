"""The first line of a csv file, which may be a row."""

from __future__ import annotations

from collections.abc import Iterator

from afina.data.doctor.check import Check
from afina.data.doctor.finding import Finding
from afina.data.header import WRITE_NAMES, find_row_signs


class RowForHeader(Check):
    """A row that was taken for the names of the columns."""

    reads_texts = False

    def findings(self) -> Iterator[Finding]:
        table = self.subject.training.part.table
        signs = find_row_signs(table)
        if signs:
            yield Finding(
                "row-for-header",
                "warning",
                f"the first line of {table.source} may be a row, and not the names of the columns: {signs}",
                "that row is lost, and columns can only be guessed by what is in them",
                f"{WRITE_NAMES}, if that is so",
                1,
            )
