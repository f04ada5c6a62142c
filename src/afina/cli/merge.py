"""afina merge"""

from __future__ import annotations

import typer

from afina.cli.output import JSON_OPTION, print_json, show


def merge(
    run: str = typer.Argument(..., metavar="RUN", help="Folder of a finished lora or qlora run."),
    output: str = typer.Option(..., metavar="FOLDER", help="Folder of the merged model, new or empty."),
    dtype: str = typer.Option(
        "float32",
        metavar="NAME",
        help="Of the stored weights: float32, bfloat16 or float16. The sum is taken in float32.",
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Fold a run's adapter into its base: one ordinary transformers model."""
    from afina.finished import merge as fold

    path = fold(run, output, dtype=dtype)
    if as_json:
        print_json({"model": str(path)})
    else:
        show(f"merged model written to {path}")
