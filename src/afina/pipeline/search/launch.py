"""A search from its first row to its outcome, and what becomes of its folder when it is stopped or refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from afina.advice.search.budget import Budget, describe_seconds
from afina.advice.search.space import Space, build_space
from afina.advice.search.study import (
    SQLITE,
    Ledger,
    check_storage_exists,
    check_url,
    hide_password,
    import_optuna,
)
from afina.config.techniques import AUTO
from afina.errors import ConfigError, Interrupted, RunFolderError
from afina.metrics.direction import is_better_larger
from afina.pipeline.changes import check_origin, describe_origin
from afina.pipeline.narrator import Narrator
from afina.pipeline.search.display import Display, make_display
from afina.pipeline.search.loop import SearchLoop
from afina.pipeline.search.outcome import finish_search
from afina.pipeline.search.plan import SearchPlan, settle_plan
from afina.pipeline.search.workbench import open_workbench
from afina.runs.lock import hold_folder
from afina.runs.names import ORIGIN, SEARCH
from afina.runs.search_folder import SearchFolder, create_search_folder, open_search


def start_search(plan: SearchPlan, source: Any, storage: str | None, narrator: Narrator) -> Path:
    """A new search; one that ends before any trial has left something leaves no folder.

    Args:
        storage: URL of an Optuna storage; None for a file in the search's folder.
    """
    import_optuna()
    budget = Budget(plan.budget_seconds)
    plan = replace(plan, storage=hide_password_of(storage))
    name = Path(str(plan.config.data.path)).stem if plan.config.data.path else "data"
    folder = create_search_folder(plan.config.output, name)
    with hold_folder(folder.path, "afina search"):
        folder.clear_beginning()
        try:
            run_search(plan, folder, source, storage, budget, make_display(narrator))
        except BaseException as error:
            stop = as_interrupted(error, folder)
            is_stopped = isinstance(stop, Interrupted) and (folder.path / SEARCH).exists()
            if not is_stopped and not any(folder.path.glob("trial-*/report.json")):
                folder.discard()
            raise_stop(stop, error)
    return folder.path


def resume_search(
    path: str | Path, source: Any, storage: str | None, budget_seconds: float | None, most_trials: int,
    narrator: Narrator, allowed_changes: frozenset[str] = frozenset(),
) -> Path:  # fmt: skip
    """A search that was stopped, gone on with; a finished one is given as it is, which is said.

    Args:
        source: the rows again, for a search whose data was in memory; else None.
        budget_seconds: time from now on; None for what is left of the old one.
        most_trials: trials from now on; 0 for what is left of the old limit.
        allowed_changes: what may have changed for a trial that was stopped.

    Raises:
        RunFolderError: if there is no such search, its data has changed or its storage is gone.
        ConfigError: if a finished one is given more time or trials, or the storage of this one isn't named.
    """
    import_optuna()
    folder = open_search(path)
    folder.allowed_changes = allowed_changes
    stored = folder.read()
    if stored["state"] == "finished":
        if budget_seconds is None and not most_trials:
            with hold_folder(folder.path, "afina search --resume"):
                folder.clear_remains()
            narrator.say(f"{path} is finished: nothing is left to do, its best run is {stored['best']['run']}")
            return folder.path
        raise ConfigError(
            f"{path} is finished: its test part was scored, so nothing can be chosen by looking at more trials",
            remedy="a new search, with a larger --budget",
        )
    plan = SearchPlan.from_dict(stored["plan"])
    used = float(stored["used_seconds"])
    if budget_seconds is not None:
        plan = replace(plan, budget_seconds=used + budget_seconds)
    if most_trials:
        plan = replace(plan, most_trials=count_ended(stored, plan.key) + most_trials)
    source = plan.config.data.path if source is None else source
    if source is None:
        raise RunFolderError(
            f"the data of {path} was in memory, so it must be given again",
            remedy="afina.search(rows, resume=path)",
        )
    if plan.storage and storage is None:
        raise ConfigError(
            f"{path} keeps its study elsewhere", found=plan.storage, remedy="--storage URL, with its password"
        )
    with hold_folder(folder.path, "afina search --resume"):
        folder.clear_remains()
        try:
            run_search(plan, folder, source, storage, Budget(plan.budget_seconds, used), make_display(narrator), stored)
        except BaseException as error:
            raise_stop(as_interrupted(error, folder), error)
    return folder.path


def count_ended(stored: Mapping[str, Any], key: str) -> int:
    """The trials of this search that have ended."""
    return sum(each["search"] == key and each["state"] != "running" for each in stored["trials"])


def run_search(
    plan: SearchPlan, folder: SearchFolder, source: Any, storage: str | None, budget: Budget, display: Display,
    stored: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Prepare once, try, judge."""
    bench = open_workbench(plan, folder.rows, source, display.narrator)
    if stored is not None and stored["data_hash"] != bench.data_hash:
        raise RunFolderError(
            f"the data of {folder.path} has changed since the search began", found=bench.data_hash[:16],
            expected=str(stored["data_hash"])[:16], remedy="bring the same rows back, or start a new search",
        )  # fmt: skip
    origin = describe_origin(bench.base, bench.device)
    if stored is None:
        folder.write_json(ORIGIN, origin)
    else:
        check_origin(folder, origin, display.narrator)
    plan = settle_plan(plan, bench)
    if budget.left_seconds <= 0 and stored is None:
        raise ConfigError(
            f"the budget of {describe_seconds(budget.seconds)} is too little for one trial",
            found=f"reading and checking the rows took {describe_seconds(budget.used_seconds)}",
            remedy="--budget 20m",
        )
    description = plan.shared_config().model_copy(update={"task": bench.task})
    space = build_space(
        description, [name for name in plan.techniques if name != AUTO], bench.sizes, bench.poolings, plan.given
    )
    name = f"afina {bench.data_hash[:16]} {origin['model'][:16]} {plan.metric} {hash_shared(plan, space)}"
    url = storage or f"{SQLITE}{folder.study.resolve()}"
    if stored is not None:
        check_storage_exists(url)
    is_larger_better = is_better_larger(plan.metric)
    ledger = Ledger(url, name, is_larger_better, plan.config.seed, is_shared=storage is not None)
    loop = SearchLoop(plan, folder, bench, space, ledger, budget, display)
    loop.write()
    display.say(
        f"search: {folder.path}, by validation {plan.metric}, {describe_seconds(budget.left_seconds)} left;"
        f" techniques {', '.join(plan.techniques)}"
    )
    loop.run()
    finish_search(loop)


def hash_shared(plan: SearchPlan, space: Space) -> str:
    """What the trials of machines that share a storage must have in common, beside rows, model and metric, so that one
    may be held against another: the techniques, and all that is given, such as the seed of the split."""
    shared = plan.config.model_dump(
        mode="json", exclude={"technique": True, "output": True, "data": {"path"}, "model": {"reference"}}
    )
    fixed = {*plan.given} - {"data.path", "model.reference", "output", "technique"}
    written = json.dumps([sorted(space.arms), sorted(fixed), shared], sort_keys=True)
    return hashlib.sha256(written.encode()).hexdigest()[:16]


def hide_password_of(storage: str | None) -> str:
    """The storage as search.json may show it; empty where there is none."""
    if not storage:
        return ""
    check_url(storage)
    return hide_password(storage)


def as_interrupted(error: BaseException, folder: SearchFolder) -> BaseException:
    """The error as it is, or for a ^C or another signal outside the loop what tells how to go on."""
    if isinstance(error, Exception | Interrupted):
        return error
    kept = folder.path if (folder.path / SEARCH).exists() else None
    return Interrupted(getattr(error, "exit_code", 130), kept, "search --resume")


def raise_stop(stop: BaseException, error: BaseException) -> NoReturn:
    """Raise what a search ends with: the error itself, its cause untouched, or the word in the place of a signal."""
    if stop is error:
        raise error
    raise stop from None
