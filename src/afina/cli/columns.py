"""The options that name columns of rows which have other names than those that a run learned from."""

from __future__ import annotations

from typing import Any

import typer


def _name(what: str) -> Any:
    return typer.Option(None, metavar="NAME", help=f"Column of {what}, where it has another name than in training.")


TEXT_COLUMN = _name("the text")
TEXT_PAIR_COLUMN = _name("the second text")
LABEL_COLUMN = _name("the label")
MESSAGES_COLUMN = _name("lists of messages")
PROMPT_COLUMN = _name("what is asked")
COMPLETION_COLUMN = _name("the answer")
