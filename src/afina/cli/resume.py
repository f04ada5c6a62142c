"""afina resume"""

from __future__ import annotations

import typer

from afina.cli.output import ALLOW_OPTION, JSON_OPTION, QUIET_OPTION, ROWS_OPTION, print_json, print_run, select_output


def resume(
    run: str = typer.Argument(..., metavar="RUN", help="Folder of a run that was stopped."),
    data: str | None = ROWS_OPTION,
    allow_changes: str = ALLOW_OPTION,
    as_json: bool = JSON_OPTION,
    quiet: bool = QUIET_OPTION,
) -> None:
    """Go on with a run after a crash, a kill or ^C, from its newest whole checkpoint."""
    from afina.api import resume as go_on

    result = go_on(run, data, allow_changes=allow_changes, verbose=not quiet)
    if as_json:
        print_json(select_output(result.report))
    else:
        print_run(result.report)
