"""afina reproduce"""

from __future__ import annotations

import typer

from afina.cli.output import JSON_OPTION, QUIET_OPTION, ROWS_OPTION, print_json


def reproduce(
    run: str = typer.Argument(..., metavar="RUN", help="Folder of a finished run."),
    data: str | None = ROWS_OPTION,
    output: str | None = typer.Option(None, metavar="FOLDER", help="New or empty; RUN-again by default."),
    as_json: bool = JSON_OPTION,
    quiet: bool = QUIET_OPTION,
) -> None:
    """Run it once more and compare the weights bit by bit; exits with 0 if they are equal, 1 if not, 2 if it can't."""
    from afina.reproductions import reproduce as repeat

    found = repeat(run, data, output=output, verbose=not quiet)
    if as_json:
        print_json(found.to_dict())
    else:
        print(found)
    if not found.is_equal:
        raise typer.Exit(1)
