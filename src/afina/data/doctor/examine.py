"""The doctor's round: every check sees every row once, then says what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from afina.data.doctor.finding import SEVERITIES, Finding
from afina.data.doctor.registry import CHECKS
from afina.data.doctor.subject import Subject


@dataclass(frozen=True)
class Examination:
    """What the checks gave."""

    findings: list[Finding]
    """Errors first, then by how telling they are."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What is neither right nor wrong: lengths, languages."""


def examine(
    subject: Subject, *, is_quick: bool = False, on_rows: Callable[[int], None] = lambda rows: None
) -> Examination:
    """All findings about the data.

    Args:
        is_quick: leave out the checks that must see the texts.
        on_rows: called with the number of rows seen so far after each batch.
    """
    wanted = [kind for kind in CHECKS if not (is_quick and kind.reads_texts)]
    checks = [check for check in (kind(subject) for kind in wanted) if check.applies()]
    readers = [check for check in checks if check.reads_texts]
    seen = 0
    for view in subject.views.values() if readers else ():
        for batch in view.batches():
            for check in readers:
                check.look(batch)
            seen += len(batch.texts)
            on_rows(seen)
    facts = {name: fact for check in checks for name, fact in check.facts().items()}
    findings = [finding for check in checks for finding in check.findings()]
    return Examination(sort_findings(findings), facts)


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """By severity; those of one severity stay in their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
