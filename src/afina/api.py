"""What a person can do before and while a model is trained, in Python: fit, resume, check, plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.config.given import anchor_paths, list_missing
from afina.config.keywords import collect_keywords, name_inputs
from afina.config.load import Description, join_settings, load_config
from afina.config.run import RunConfig, TechniqueName
from afina.durable import expand_home
from afina.errors import ConfigError, Problem
from afina.finished import Run
from afina.isolation import isolated
from afina.pipeline.changes import parse_allowed
from afina.pipeline.description import find_rows
from afina.pipeline.launch import resume_run, start_run, tidy_finished
from afina.pipeline.narrator import make_narrator
from afina.runs.creation import create_run_folder
from afina.runs.folder import AnyRun, open_run

if TYPE_CHECKING:
    from afina.advice.plan import Plan
    from afina.pipeline.check_report import CheckReport
    from afina.pipeline.narrator import Narrator


@isolated
def fit(
    model: str | Path | None = None,
    data: Any = None,
    technique: TechniqueName | str | None = None,
    *,
    config: Description = None,
    verbose: bool = True,
    **settings: Any,
) -> Run:
    """A model adapted to the data, with its report.

    Args:
        model: folder, Hub id, or package:NAME/PATH.
        data: file, folder, Hub id, datasets.Dataset or DatasetDict, frame of pandas or polars, pyarrow.Table, list of
            dicts, dict of columns, or a dict of parts such as `{"train": rows, "test": rows}`.
        technique: full, feature-extraction, lora, qlora or auto (the default): chosen by evidence, with its reason.
        config: YAML file with the same settings, or what would stand in it: a mapping, or a `RunConfig`.
        verbose: whether to say on stderr what is going on.
        settings: any setting by its name (`learning_rate=2e-5`, `label_column="stars"`, `seed=1`) or, for those
            of a section, as a mapping (`lora={"r": 8}`).

    Raises:
        UserError: if the settings, the data or the model can't be used; nothing is left behind.
        Interrupted: after ^C while training; `resume` goes on.
    """
    given = settings if technique is None else {"technique": technique, **settings}
    description = describe_run(model, data, config, given, fit)
    refuse_missing(list_missing(description, is_in_memory(data), "afina train DATA ...", "afina.fit(model, data)"))
    description = anchor_paths(description)
    return start(description, data if is_in_memory(data) else description.data.path, make_narrator(verbose))


def is_in_memory(data: Any) -> bool:
    """Whether these are rows, and no path or id."""
    return data is not None and not isinstance(data, str | Path)


def describe_run(
    model: str | Path | None, data: Any, config: Description, settings: Mapping[str, Any], function: Callable[..., Any]
) -> RunConfig:
    """The description of a run that `function` makes, or asks about, with what was given besides on top."""
    named = name_inputs(model, data)
    return load_config(config, join_settings([*named.items(), *collect_keywords(settings, function).items()]))


def refuse_missing(problems: Sequence[Problem]) -> None:
    """Refuse a description without data or model, both at once."""
    if problems:
        raise ConfigError(problems=problems)


def start(config: RunConfig, source: Any, narrator: Narrator) -> Run:
    """A new run from its description; a run that ends without a result or a checkpoint leaves no folder."""
    data_name = Path(str(config.data.path)).stem if config.data.path else "data"
    folder = create_run_folder(config, data_name)
    start_run(config, folder, source, narrator)
    return Run(folder.path)


@isolated
def resume(run: AnyRun, data: Any = None, *, allow_changes: str | Sequence[str] = (), verbose: bool = True) -> Run:
    """A run that was stopped, gone on with to its end; a finished run is given as it is.

    Args:
        data: the rows again, for a run whose data was in memory or lies elsewhere now.
        allow_changes: what may have changed since it began: some of config, device, model, versions.

    Raises:
        RunFolderError: if there is no such run, its data has changed, or something else that isn't allowed to.
    """
    folder, narrator = open_run(run), make_narrator(verbose)
    folder.allowed_changes = parse_allowed(allow_changes)
    if folder.is_finished:
        tidy_finished(folder)
        narrator.say(f"{folder.path} is finished: nothing is left to do, the model is in {folder.model}")
        return Run(folder.path)
    config = folder.read_description()
    resume_run(config, folder, find_rows(folder, config, data, "resume"), narrator)
    return Run(folder.path)


@isolated
def check(
    data: Any = None,
    model: str | Path | None = None,
    *,
    config: Description = None,
    fix: str | Path | None = None,
    html: str | Path | None = None,
    show_mask: int = 0,
    verbose: bool = False,
    **settings: Any,
) -> CheckReport:
    """What is wrong with the data, before anything is trained: `findings`, `facts`, `print()`, `to_dict()`.

    Row numbers count from 1, those of a frame too: row 1 is `frame.iloc[0]`.

    Args:
        data: as for `fit`.
        model: counts its tokens, looks for wrong labels, and shows what would be learned of conversations.
        config: as for `fit`.
        fix: where a cleaned copy goes; the data itself is never touched.
        html: where the report goes as a page.
        show_mask: how many conversations to show as stretches of text, learned or only read.
        verbose: whether to say on stderr how far it is.
        settings: as for `fit`.

    Raises:
        UserError: if the data can't be read, the model can't be used, or the copy can't be written.
    """
    from afina.pipeline.check import Wanted, check_data

    description, in_memory = describe_run(model, data, config, settings, check), is_in_memory(data)
    refuse_missing(list_missing(description, in_memory, "afina check DATA ...", "afina.check(data)", needs_model=False))
    wanted = Wanted(show_mask, (fix and expand_home(fix)) or None, (html and expand_home(html)) or None)
    return check_data(description, data if in_memory else description.data.path, wanted, make_narrator(verbose))


@isolated
def plan(
    data: Any = None, model: str | Path | None = None, *, config: Description = None, device: str | None = None,
    device_memory: str | None = None, measure: bool = False, **settings: Any,
) -> Plan:  # fmt: skip
    """What each technique would cost: peak memory in parts, time, disk, and whether it fits; nothing is trained.

    Args:
        data: as for `fit`.
        model: as for `fit`.
        config: as for `fit`.
        device: cpu, cuda, mps, or a known GPU such as rtx-4090, for another machine than this one.
        device_memory: memory of that machine with its unit, such as 24GB.
        measure: whether to take a few real steps, in a process of their own, to correct the figures.
        settings: as for `fit`.

    Raises:
        UserError: if the data, the model or the description of the machine can't be used.
    """
    from afina.pipeline.plan import plan_run

    description, in_memory = describe_run(model, data, config, settings, plan), is_in_memory(data)
    refuse_missing(list_missing(description, in_memory, "afina plan DATA ...", "afina.plan(data, model)"))
    source = data if in_memory else description.data.path
    return plan_run(description, source, device=device, device_memory=device_memory, measure=measure)
