"""The page of `afina check`: one file with its styles inline, no scripts, nothing fetched; texts are escaped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afina.evaluation.report import load_template
from afina.terminal import make_printable

SEVERITIES = ("error", "warning", "hint")
MARK = '<meta name="generator" content="afina check">'
HEAD_BYTES = 1000
"""Of a page, among which the mark stands."""
ROWS_SHOWN = 50
CLASSES_SHOWN = 40


def render_check(report: Mapping[str, Any]) -> str:
    """The whole page, from `CheckReport.to_dict()`."""
    counts = {
        severity: sum(finding["severity"] == severity for finding in report["findings"]) for severity in SEVERITIES
    }
    page = load_template("check.html.j2").render(
        report=report,
        facts=report["facts"],
        counts=counts,
        classes=list_classes(report["facts"].get("classes") or {}),
        rows_shown=ROWS_SHOWN,
        mark=MARK,
    )
    return make_printable(page)


def is_own_page(path: Path) -> bool:
    """Whether a file is a page of `afina check`, which may be replaced by a newer one."""
    try:
        with open(path, "rb") as file:
            return MARK.encode() in file.read(HEAD_BYTES)
    except OSError:
        return False


def list_classes(classes: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """The largest classes with their rows in each part, and the share of the largest as the length of a bar."""
    parts = list(classes)
    if not parts or not classes[parts[0]]:
        return []
    first = classes[parts[0]]
    largest = max(1, *first.values())
    names = sorted(first, key=lambda name: -first[name])[:CLASSES_SHOWN]
    return [
        {"name": name, "rows": [classes[part].get(name, 0) for part in parts], "bar": 100 * first[name] / largest}
        for name in names
    ]
