"""The rows that a check found while it looked at texts: all counted, the first kept, some as examples."""

from __future__ import annotations

from afina.data.bad_rows import RowNumbers
from afina.data.doctor.finding import EXAMPLES_SHOWN, Example, Finding, Severity, shorten
from afina.data.doctor.subject import Batch, Subject


class FoundRows:
    """Rows of all parts."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.rows: dict[str, RowNumbers] = {}
        self.examples: list[Example] = []

    def __len__(self) -> int:
        return sum(map(len, self.rows.values()))

    def add(self, batch: Batch, place: int, text: str | None = None) -> None:
        """Count a row by its place in a batch; as an example it shows `text`, or the beginning of its own."""
        row = int(self.subject.views[batch.part].numbers[batch.start + place])
        self.rows.setdefault(batch.part, RowNumbers()).add(row)
        if len(self.examples) < EXAMPLES_SHOWN:
            self.examples.append(Example(batch.part, row, shorten(batch.texts[place]) if text is None else text))

    def describe(self, code: str, severity: Severity, title: str, meaning: str, remedy: str) -> Finding:
        """The finding about these rows."""
        return Finding(code, severity, title, meaning, remedy, len(self), dict(self.rows), tuple(self.examples))
