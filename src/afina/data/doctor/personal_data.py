"""Data about people that had better not be learned: e-mail addresses, phone numbers, bank and card numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from afina.data.doctor.check import Check
from afina.data.doctor.finding import Finding
from afina.data.doctor.found_rows import FoundRows
from afina.data.doctor.personal_forms import find_personal, hide
from afina.data.doctor.subject import Batch, Subject
from afina.wording import count


class PersonalData(Check):
    """Rows that may be about somebody."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.found = FoundRows(subject)
        self.kinds: Counter[str] = Counter()

    def look(self, batch: Batch) -> None:
        for place, text in enumerate(batch.texts):
            found = find_personal(text)
            if found:
                self.kinds.update({kind for kind, _ in found})
                self.found.add(batch, place, "; ".join(f"{kind} {hide(value)}" for kind, value in found[:3]))

    def findings(self) -> Iterator[Finding]:
        if self.found:
            kinds = ", ".join(f"{kind} in {rows:,}" for kind, rows in self.kinds.most_common())
            yield self.found.describe(
                "personal-data",
                "hint",
                f"{count(len(self.found), 'row')} may hold data about people: {kinds}",
                "a model may repeat what it has learned, and you may not be allowed to use it",
                "replace them by a word such as EMAIL where they don't matter; names are not looked for",
            )
