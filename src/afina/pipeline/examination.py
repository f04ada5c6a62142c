"""What every run asks the data doctor before it begins: the checks that need no look at the texts."""

from __future__ import annotations

from collections.abc import Sequence

from afina.config.run import RunConfig
from afina.data.doctor.examine import examine
from afina.data.doctor.finding import Finding
from afina.data.doctor.subject import Subject
from afina.errors import DataError, Problem
from afina.pipeline.narrator import Narrator

GO_ON = "--set data.on_findings=warn goes on all the same"


def examine_rows(subject: Subject, config: RunConfig, narrator: Narrator) -> list[Finding]:
    """All findings, for data.json; those that cost quality are told, hints are not.

    Raises:
        DataError: where the rows make a run worthless, unless the user wants to go on.
    """
    findings = examine(subject, is_quick=True).findings
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors and config.data.on_findings == "fail":
        raise DataError("the data would make this run worthless", problems=describe_errors(errors))
    for finding in findings:
        if finding.severity != "hint":
            narrator.note(finding.as_note())
    return findings


def describe_errors(findings: Sequence[Finding]) -> list[Problem]:
    """Findings as an error lists them."""
    return [
        Problem(f"{finding.title} [{finding.code}]", finding.list_rows(), "", f"{name_verb(finding.remedy)}; {GO_ON}")
        for finding in findings
    ]


def name_verb(remedy: str) -> str:
    """The remedy with the verb of a flag that training doesn't have."""
    return remedy.replace("--fix OUT", "afina check DATA --fix OUT")
