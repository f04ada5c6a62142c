"""afina train"""

from __future__ import annotations

import typer

from afina.cli.output import JSON_OPTION, QUIET_OPTION, SET_OPTION, option, print_json, print_run, select_output
from afina.cli.setting_flags import SHOWN

SETTINGS = tuple(SHOWN)
DATA = typer.Argument(
    None,
    metavar="DATA",
    help="File (csv, tsv, jsonl, json, parquet, txt, conll), folder with train.* and maybe test.*, or Hub id.",
)
CONFIG = option("FILE", "YAML file with any of the settings.")
MODEL = option("REF", "Folder, Hub id, .gguf file, or package:NAME/PATH.")


def train(
    data: str | None = DATA,
    model: str | None = MODEL,
    config: str | None = CONFIG,
    set_: list[str] = SET_OPTION,
    as_json: bool = JSON_OPTION,
    quiet: bool = QUIET_OPTION,
) -> None:
    """Adapt a model to labelled rows, score it on held-out ones, and write a report."""
    from afina.api import fit
    from afina.config.keywords import collect_flags

    settings = collect_flags(set_, fit)
    run = fit(model, data, settings.pop("technique", None), config=config, verbose=not quiet, **settings)
    if as_json:
        print_json(select_output(run.report))
    else:
        print_run(run.report)
