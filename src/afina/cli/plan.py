"""afina plan"""

from __future__ import annotations

import typer

from afina.cli.output import JSON_OPTION, SET_OPTION, print_json, show
from afina.cli.train import CONFIG, DATA, MODEL

SETTINGS = ("task", "max_seq_length", "per_device_train_batch_size")
DEVICE_HELP = "Another machine: cpu, cuda, mps, or a known GPU such as rtx-4090."


def plan(
    data: str | None = DATA,
    model: str | None = MODEL,
    config: str | None = CONFIG,
    device: str | None = typer.Option(None, help=DEVICE_HELP),
    device_memory: str | None = typer.Option(None, help="Memory of another machine with its unit: 24GB."),
    measure: bool = typer.Option(False, "--measure", help="Take a few real steps to correct the figures."),
    set_: list[str] = SET_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Show what each technique would cost, and whether it fits, before anything is trained."""
    from afina.api import plan as make_plan
    from afina.config.keywords import collect_flags

    settings = collect_flags(set_, make_plan)
    found = make_plan(
        data, model, config=config, device=device, device_memory=device_memory, measure=measure, **settings
    )
    if as_json:
        print_json(found.to_dict())
    else:
        show(str(found))
