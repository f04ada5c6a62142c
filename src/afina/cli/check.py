"""afina check"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from afina.cli.output import JSON_OPTION, SET_OPTION, option, print_json, print_table


def check(
    data: str = typer.Argument(..., metavar="DATA", help="Conversations: file, folder or Hub id."),
    model: str = typer.Option(..., metavar="REF", help="Language model whose template and tokens are used."),
    show_mask: int = typer.Option(3, min=0, metavar="N", help="Training rows to show, learned tokens marked."),
    chat_template: str | None = option("NAME", "auto, chatml, none, or path of a Jinja file."),
    chat_template_kwargs: str | None = option("MAPPING", "Its arguments, such as '{enable_thinking: false}'."),
    max_seq_length: str | None = option("N", "Tokens a row may have: a whole number above 0, or auto."),
    set_: list[str] = SET_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Show which tokens of conversations a language model would learn, and what is odd in them."""
    from afina.api import check as look
    from afina.config.load import parse_override

    given = {
        "chat_template": chat_template, "chat_template_kwargs": chat_template_kwargs, "max_seq_length": max_seq_length,
    }  # fmt: skip
    flags = [f"{name}={value}" for name, value in given.items() if value is not None]
    settings = dict(parse_override(text) for text in [*flags, *set_])
    found = look(data, model, rows=show_mask, **settings)
    if as_json:
        print_json(found)
        return
    for reason in found["reasons"]:
        print(f"{reason['setting']} = {reason['value']}: {reason['reason']}")
    for note in found["notes"]:
        print(note)
    rows = [
        [name, *(f"{part[key]:,}" for key in ("rows", "tokens", "trained_tokens"))]
        for name, part in found["parts"].items()
    ]
    print_table("what is learned", ["part", "rows", "tokens", "learned tokens"], rows)
    print_masks(found["rows"])


def print_masks(rows: Sequence[Mapping[str, Any]]) -> None:
    """Each row's text, what is learned in colour; where there is no colour, between ⟦ and ⟧."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for row in rows:
        console.print(Text(f"row {row['row']}: {row['trained_tokens']:,} learned tokens", style="bold"))
        line = Text()
        for stretch in row["stretches"]:
            text = stretch["text"]
            plain = text if console.is_terminal or not stretch["trained"] else f"⟦{text}⟧"
            line.append(plain, style="black on green" if stretch["trained"] else "dim")
        console.print(line, soft_wrap=True)
