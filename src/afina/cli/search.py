"""afina search"""

from __future__ import annotations

import typer

from afina.cli.output import ALLOW_OPTION, JSON_OPTION, QUIET_OPTION, print_json, show
from afina.cli.train import DATA, MODEL

SETTINGS = ("task", "output", "seed")


def search(
    data: str | None = DATA,
    model: str | None = MODEL,
    budget: str | None = typer.Option(None, help="Time for everything: 20m, 1h30m or 90s."),
    techniques: str | None = typer.Option(None, help="Such as lora,full, the default first; auto if not named."),
    metric: str | None = typer.Option(None, help="Score of the validation part; the task's own by default."),
    trials: int | None = typer.Option(None, help="Trials at most; with --resume, from now on."),
    storage: str | None = typer.Option(None, help="URL of an Optuna storage that several machines share."),
    resume: str | None = typer.Option(
        None, help="Folder of a search that was stopped; it keeps its data, model and settings."
    ),
    allow_changes: str = ALLOW_OPTION,
    config: str | None = typer.Option(None, help="YAML file with any of the settings; what it sets is not searched."),
    set_: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="Any setting, which is not searched; repeatable. So does --KEY VALUE."
    ),
    as_json: bool = JSON_OPTION,
    quiet: bool = QUIET_OPTION,
) -> None:
    """Try techniques and settings within a budget of time, and say whether the winner's lead is larger than noise."""
    from afina.config.keywords import collect_flags
    from afina.searches import search as run_search

    settings = collect_flags(set_, run_search)
    found = run_search(
        data, model, budget, metric=metric, trials=trials, techniques=techniques, storage=storage, resume=resume,
        allow_changes=allow_changes,
        config=config, verbose=not quiet, **settings,
    )  # fmt: skip
    if as_json:
        print_json(found.to_dict())
    else:
        show(str(found))
