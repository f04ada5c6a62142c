"""afina check"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from afina.cli.output import JSON_OPTION, QUIET_OPTION, SET_OPTION, option, print_json, show
from afina.cli.train import CONFIG, DATA
from afina.terminal import make_printable

SETTINGS = ("task", "text_column", "label_column", "chat_template", "chat_template_kwargs", "max_seq_length")
ERRORS_FOUND = 2
"""The exit code of wrong input, which such data is."""


def check(
    data: str | None = DATA,
    model: str | None = option("REF", "Counts its tokens, looks for wrong labels, shows what is learned."),
    config: str | None = CONFIG,
    fix: str | None = option("OUT", "Write a cleaned copy, and a log of each change."),
    html: str | None = option("FILE", "Write the report as one page."),
    show_mask: int = typer.Option(0, min=0, metavar="N", help="Conversations to show, learned tokens marked."),
    set_: list[str] = SET_OPTION,
    as_json: bool = JSON_OPTION,
    quiet: bool = QUIET_OPTION,
) -> None:
    """Say what is wrong with the data, by row number, before anything is trained. Exits with 2 if a run would fail."""
    from afina.api import check as look
    from afina.config.keywords import collect_flags

    settings = collect_flags(set_, look)
    report = look(data, model, config=config, fix=fix, html=html, show_mask=show_mask, verbose=not quiet, **settings)
    if as_json:
        print_json(report.to_dict())
    else:
        report.print()
        print_masks(report.mask)
        print_fixed(report.fixed)
        if html:
            show(f"page    {html}")
    if report.has_errors:
        raise typer.Exit(ERRORS_FOUND)


def print_fixed(fixed: Mapping[str, Any]) -> None:
    """What the cleaned copy holds."""
    if fixed:
        rules = ", ".join(f"{rule} {times:,}" for rule, times in fixed["rules"].items()) or "nothing to change"
        show(f"copy    {fixed['path']}  ({rules})")
        show(f"log     {fixed['log']}")


def print_masks(rows: Sequence[Mapping[str, Any]]) -> None:
    """Each row's text, what is learned in colour; where there is no colour, between ⟦ and ⟧."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for row in rows:
        console.print(Text(f"row {row['row']}: {row['trained_tokens']:,} learned tokens", style="bold"))
        line = Text()
        for stretch in row["stretches"]:
            text = make_printable(stretch["text"])
            plain = text if console.is_terminal or not stretch["trained"] else f"⟦{text}⟧"
            line.append(plain, style="black on green" if stretch["trained"] else "dim")
        console.print(line, soft_wrap=True)
