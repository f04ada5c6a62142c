"""What `afina check` found: findings and facts, printed as a table, given as JSON, or written as a page."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.data.doctor.finding import SEVERITIES, Finding
from afina.durable import expand_home
from afina.errors import DataError
from afina.terminal import make_printable
from afina.wording import count

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {"error": "bold red", "warning": "yellow", "hint": "cyan"}
WIDTH = 120
NOTABLE = 0.001
"""Share of the rows that a limit must cut to be told."""


@dataclass(frozen=True, repr=False)
class CheckReport:
    """The doctor's report."""

    source: str
    findings: Sequence[Finding]
    """Errors first."""
    facts: dict[str, Any]
    """`task`, `columns`, `rows` by part, `classes`, `words`, `characters`, and with a model `tokens`."""
    reasons: Sequence[dict[str, Any]] = ()
    """What was guessed, and why."""
    notes: Sequence[str] = ()
    """What was done without asking."""
    mask: Sequence[dict[str, Any]] = ()
    """Rows as stretches of text, learned or only read."""
    fixed: dict[str, Any] = field(default_factory=dict)
    """The cleaned copy: `path`, `log`, `rows`, `rules`."""

    def __repr__(self) -> str:
        return f"CheckReport({self.source!r}, {len(self.findings)} findings; print it for the report)"

    @property
    def has_errors(self) -> bool:
        """Whether a run with these rows is worthless or impossible."""
        return any(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        return {
            "source": self.source,
            "has_errors": self.has_errors,
            "findings": [finding.as_dict() for finding in self.findings],
            "facts": self.facts,
            "reasons": list(self.reasons),
            "notes": list(self.notes),
            "mask": list(self.mask),
            "fixed": self.fixed,
        }

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        self.show(Console(file=text, width=WIDTH))
        # A table fills its lines with blanks, which a terminal needs and a file doesn't.
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def print(self) -> None:
        """The table on stdout."""
        from rich.console import Console

        console = Console()
        if console.is_terminal:
            self.show(console)
        else:
            console.print(make_printable(str(self)), highlight=False, markup=False, soft_wrap=True)

    def show(self, console: Console) -> None:
        """The table on a console."""
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        for line in self.describe_data():
            console.print(Text(make_printable(line)), soft_wrap=True)
        table = Table(box=None, padding=(0, 2, 1, 0), show_header=False)
        table.add_column(width=max(map(len, SEVERITIES)), no_wrap=True)
        table.add_column(overflow="fold")
        for finding in self.findings:
            table.add_row(Text(finding.severity, style=COLOURS[finding.severity]), describe_finding(finding))
        console.print(Padding(table, (1, 0, 0, 0)) if self.findings else Text("nothing wrong was found"))
        console.print(Text(self.summarise()))

    def describe_data(self) -> list[str]:
        """What was looked at, in a few lines."""
        facts = self.facts
        rows = ", ".join(f"{name} {rows:,}" if name != "all" else f"{rows:,}" for name, rows in facts["rows"].items())
        lines = [f"{self.source}: {facts['task']}, {rows} rows"]
        lines += [f"{each['setting']} = {each['value']}: {each['reason']}" for each in self.reasons]
        if facts.get("words"):
            lines.append(f"length in words: {list_quantiles(facts['words'])}")
        if "tokens" in facts:
            lines.append(describe_tokens(facts["tokens"]))
        for name, part in facts.get("parts", {}).items():
            learned = f"{part['trained_tokens']:,} of {part['tokens']:,} tokens"
            lines.append(f"{name}: {part['rows']:,} rows, {learned} are learned")
        return [*lines, *self.notes]

    def summarise(self) -> str:
        """How many findings of each kind."""
        counts = Counter(finding.severity for finding in self.findings)
        return ", ".join(count(counts[severity], severity) for severity in SEVERITIES)

    def save_html(self, path: str | Path) -> Path:
        """The report as one page that needs nothing else; an older page of a check is replaced.

        Raises:
            DataError: if the name isn't that of a page, another file has it, or it can't be written.
        """
        from afina.evaluation.check_page import render_check

        path = check_page_path(path)
        unfinished = path.with_name(f".{path.name}.tmp")
        try:
            unfinished.write_text(render_check(self.to_dict()), encoding="utf-8")
            os.replace(unfinished, path)
        except OSError as error:
            raise DataError(f"{path} can't be written", found=str(error.strerror), remedy="another --html") from None
        return path


def check_page_path(path: str | Path) -> Path:
    """The path of a page. DataError for the name of anything else, and for a file that isn't a page of ours: neither is
    written over.
    """
    from afina.evaluation.check_page import is_own_page

    path = expand_home(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"{path} isn't the name of a page", remedy=f"--html {path.with_suffix('.html')}")
    if not path.parent.is_dir():
        raise DataError(f"the folder {path.parent} doesn't exist", remedy=f"make it, or another --html than {path}")
    if path.exists() and not is_own_page(path):
        raise DataError(
            f"{path} exists already and is no page of afina check, so it isn't written over", remedy="another --html"
        )
    return path


def describe_finding(finding: Finding) -> Any:
    """What, where, an example, and what to do, as lines of a cell."""
    from rich.text import Text

    text = Text()
    text.append(make_printable(finding.title), style="bold")
    text.append(f"  [{finding.code}]", style="dim")
    shown = finding.examples[: 1 if finding.severity == "hint" else 2]
    rows = finding.list_rows()
    if rows:
        text.append(f"\n{rows}")
    for example in shown:
        text.append(make_printable(f"\n  {example}"), style="dim")
    text.append(make_printable(f"\ndo: {finding.remedy}"))
    return text


def list_quantiles(quantiles: dict[str, int]) -> str:
    """`median 6, p90 9, p99 12, longest 18`."""
    return ", ".join(f"{name} {value:,}" for name, value in quantiles.items())


def describe_tokens(tokens: dict[str, Any]) -> str:
    """Quantiles, and what each limit would cut."""
    cuts = "; ".join(describe_cut(cut) for cut in tokens["cuts"] if NOTABLE <= cut["texts"] < 0.5)
    sample = f" ({tokens['sample']})" if tokens["sample"] else ""
    return f"length in tokens{sample}: {list_quantiles(tokens['quantiles'])}{f'; {cuts}' if cuts else ''}"


def describe_cut(cut: dict[str, Any]) -> str:
    """`128 would cut 3.1% of the rows and 0.4% of their tokens`."""
    what, share = ("the tokens to learn", cut["trained"]) if "trained" in cut else ("their tokens", cut["tokens"])
    return f"{cut['limit']:,} would cut {cut['texts']:.1%} of the rows and {share:.1%} of {what}"
