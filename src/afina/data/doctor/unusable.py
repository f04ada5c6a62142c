"""Rows that no run can use: those that can't be read, and those without a text or a label that means something."""

from __future__ import annotations

from collections.abc import Iterator

from afina.data import labels
from afina.data.bad_rows import DROP, RowNumbers, leave_out
from afina.data.doctor.check import Check
from afina.data.doctor.finding import Finding
from afina.data.usable_rows import NO_TEXT, NOT_TEXT
from afina.wording import count

CODES = {
    NO_TEXT: "empty-text",
    NOT_TEXT: "text-not-text",
    labels.MISSING: "missing-label",
    labels.UNKNOWN: "unknown-label",
    labels.NO_NUMBER: "label-not-a-number",
    labels.NOT_FINITE: "label-not-a-number",
    labels.TOO_LARGE: "label-too-large",
    labels.NO_LIST: "label-not-a-list",
    labels.NO_NAME: "label-not-a-name",
}
OTHER = "unusable-row"
"""The code where rows are conversations, whose faults are many."""
REMEDY = (
    "mend these rows; --fix OUT leaves out those that can't be read, are empty or have no string for a text;"
    f" train leaves out all with {DROP}"
)
MEANING = "a run stops before it begins, and lists these rows"


class UnreadRows(Check):
    """Rows that are broken in the file itself."""

    reads_texts = False

    def findings(self) -> Iterator[Finding]:
        for part, problems in self.subject.unread.items():
            for problem in problems:
                numbers = RowNumbers(list(problem.rows[:]), len(problem.rows))
                what = problem.what.rpartition(": ")[2]  # without the name of the file
                title = f"{what}{f': {problem.found}' if problem.found else ''}"
                remedy = f"{problem.remedy}; --fix OUT leaves them out"
                yield Finding("unread-row", "error", title, MEANING, remedy, len(numbers), {part: numbers})


class UnusableRows(Check):
    """Rows without a text or a label."""

    reads_texts = False

    def findings(self) -> Iterator[Finding]:
        reasons = dict.fromkeys(reason for faults in self.subject.faults.values() for reason in faults)
        for reason in reasons:
            rows = {
                part: leave_out(faults[reason], self.subject.unread.get(part, ()))
                for part, faults in self.subject.faults.items() if reason in faults
            }  # fmt: skip
            total = sum(map(len, rows.values()))
            if not total:
                continue
            found = self.subject.found.get(reason, "")
            title = f"{count(total, 'row')} with {reason}{f', such as {found}' if found else ''}"
            space = self.subject.space
            none = space.spell_none if space and reason == labels.MISSING else ""
            yield Finding(CODES.get(reason, OTHER), "error", title, MEANING, none + REMEDY, total, rows)
