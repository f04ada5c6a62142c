"""The options that decide how a language model answers."""

from __future__ import annotations

from typing import Any

import typer

MAX_NEW_TOKENS = typer.Option(None, metavar="N", help="Tokens of an answer at most; 256 by default.")
TEMPERATURE = typer.Option(
    None, metavar="NUMBER", help="Draw tokens from the logits divided by this; by default the likeliest is taken."
)
TOP_P = typer.Option(
    None, metavar="SHARE", help="Draw tokens from the likeliest ones that have this share of the probability."
)
ANSWER_SEED = typer.Option(None, metavar="N", help="Seed of what is drawn; 0 by default.")


def collect_decoding(
    max_new_tokens: int | None, temperature: float | None, top_p: float | None, seed: int | None
) -> dict[str, Any]:
    """Those that were given."""
    given = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    return {name: value for name, value in given.items() if value is not None}
