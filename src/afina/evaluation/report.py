"""The report of a run as one HTML file: styles and charts inline, no script, nothing fetched.

Texts and class names come from the user's data and are untrusted: jinja2 escapes all of them, and the page's own
content security policy forbids scripts and requests besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afina.evaluation.view import build_view


def render_report(report: Mapping[str, Any]) -> str:
    """The whole page; any key of the mapping may be absent or empty, and its section then vanishes."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("afina.evaluation", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.jinja")
    return template.render(report=report, **build_view(report))
