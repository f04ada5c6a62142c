"""Columns beside the text and the label: those that say nothing."""

from __future__ import annotations

from collections.abc import Iterator

from afina.data.column_profile import profile_columns
from afina.data.doctor.check import Check
from afina.data.doctor.finding import Finding
from afina.wording import count


class SilentColumns(Check):
    """Columns that are empty, or the same in all rows."""

    reads_texts = False

    def findings(self) -> Iterator[Finding]:
        table = self.subject.training.part.table
        profiles = [p for p in profile_columns(table).values() if p.name not in self.subject.columns]
        silent = [p for p in profiles if p.distinct_count <= 1 and table.row_count > 1]
        if silent:
            listed = ", ".join(
                f"{p.name!r} ({f'always {p.example}' if p.filled_count else 'empty'})" for p in silent[:6]
            )
            yield Finding(
                "constant-columns",
                "hint",
                f"{count(len(silent), 'column')} with the same value in all rows that were looked at: {listed}",
                "they are not read; if one of them should be the text or the label, the file is not what you think",
                "nothing, or look at how the file was made",
                len(silent),
            )
