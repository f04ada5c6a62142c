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
from afina.errors import ConfigError
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
    in_memory = data is not None and not isinstance(data, str | Path)
    named = name_inputs(model, data) | ({} if technique is None else {"technique": technique})
    overrides = join_settings([*named.items(), *collect_keywords(settings, fit).items()])
    description = load_config(config, overrides)
    check_complete(description, in_memory)
    description = anchor_paths(description)
    return start(description, data if in_memory else description.data.path, make_narrator(verbose))


def check_complete(config: RunConfig, in_memory: bool) -> None:
    """Refuse a description without data or model, both at once."""
    problems = list_missing(config, in_memory, "afina train DATA ...", "afina.fit(model, data)")
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
    data: Any,
    model: str | Path | None = None,
    *,
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
        fix: where a cleaned copy goes; the data itself is never touched.
        html: where the report goes as a page.
        show_mask: how many conversations to show as stretches of text, learned or only read.
        verbose: whether to say on stderr how far it is.
        settings: as for `fit`.

    Raises:
        UserError: if the data can't be read, the model can't be used, or the copy can't be written.
    """
    from afina.pipeline.check import Wanted, check_data

    wanted = Wanted(show_mask, (fix and expand_home(fix)) or None, (html and expand_home(html)) or None)
    return check_data(describe_question(data, model, settings, check), data, wanted, make_narrator(verbose))


@isolated
def plan(
    data: Any, model: str | Path, *, device: str | None = None, device_memory: str | None = None,
    measure: bool = False, **settings: Any,
) -> Plan:  # fmt: skip
    """What each technique would cost: peak memory in parts, time, disk, and whether it fits; nothing is trained.

    Args:
        data: as for `fit`.
        model: as for `fit`.
        device: cpu, cuda, mps, or a known GPU such as rtx-4090, for another machine than this one.
        device_memory: memory of that machine with its unit, such as 24GB.
        measure: whether to take a few real steps, in a process of their own, to correct the figures.
        settings: as for `fit`.

    Raises:
        UserError: if the data, the model or the description of the machine can't be used.
    """
    from afina.pipeline.plan import plan_run

    config = describe_question(data, model, settings, plan)
    return plan_run(config, data, device=device, device_memory=device_memory, measure=measure)


def describe_question(
    data: Any, model: str | Path | None, settings: Mapping[str, Any], function: Callable[..., Any]
) -> RunConfig:
    """The description of a run that `function` only asks about."""
    named = name_inputs(model, data)
    return load_config(None, join_settings([*named.items(), *collect_keywords(settings, function).items()]))
