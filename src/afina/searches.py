"""Searching in Python."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afina.config.given import anchor_paths, list_missing
from afina.config.keywords import collect_keywords, name_inputs
from afina.config.load import Description, complete_key, join_settings, list_described, load_config
from afina.config.run import RunConfig
from afina.errors import ConfigError, Problem
from afina.finished import Run
from afina.isolation import isolated
from afina.pipeline.changes import parse_allowed
from afina.pipeline.narrator import make_narrator
from afina.runs.search_folder import open_search


class Search:
    """A finished search: its trials, the best of them, and what its lead is worth.

    Args:
        path: the folder that `search` or `afina search` made.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = open_search(path).path
        self._stored = open_search(path).read()

    def __repr__(self) -> str:
        return f"Search({str(self.path)!r}, {len(self.trials)} trials)"

    def __str__(self) -> str:
        from afina.pipeline.search.summary import summarise

        return summarise(self._stored)

    @property
    def trials(self) -> list[dict[str, Any]]:
        """What became of each trial: `technique`, `settings`, `state`, validation `score`, `seconds`, `run`."""
        return list(self._stored["trials"])

    @property
    def best(self) -> Run:
        """The result's run, scored on the test part: the winner's, or the default's where its lead was too small.

        Raises:
            ConfigError: if the search isn't finished.
        """
        best = self._stored["best"]
        if best is None:
            raise ConfigError(
                f"{self.path} isn't finished", remedy=f"afina search --resume {shlex.quote(str(self.path))}"
            )
        return Run(best["run"])

    def to_dict(self) -> dict[str, Any]:
        """All that search.json holds: `plan`, `trials`, `intervals`, `best`, `verdict`, `test`, `used_seconds`."""
        return {"search": str(self.path), **self._stored}


@isolated
def search(
    data: Any = None,
    model: str | Path | None = None,
    budget: str | None = None,
    *,
    metric: str | None = None,
    trials: int | None = None,
    techniques: Any = None,
    storage: str | None = None,
    resume: str | Path | None = None,
    allow_changes: str | Sequence[str] = (),
    config: Description = None,
    verbose: bool = True,
    **settings: Any,
) -> Search:
    """The best of as many runs as fit into a time, judged on the validation part; the test part is scored once. The
    default stays the result unless another run is ahead by more than the error of its lead.

    Args:
        data: as for `fit`.
        model: as for `fit`.
        budget: time for everything, such as `20m`, `1h30m` or `90s`.
        metric: score of the validation part; by default the task's own.
        trials: how many at most.
        techniques: `lora,full` or a list, in the order in which their defaults are tried; by default `auto`, what `fit`
            does without a technique, and then all that fit.
        storage: URL of an Optuna storage that several machines share.
        resume: folder of a search that was stopped; `budget` and `trials` then count from now on, by default what was
            left of them. Of all else it takes its rows, if they were in memory, and `storage`.
        allow_changes: with `resume`, what may have changed for a trial that was stopped, as for `afina.resume`.
        config: YAML file with any of the settings, or what would stand in it; what it sets is not searched.
        verbose: whether to say on stderr how far it is.
        settings: as for `fit`; one that is given is not searched.

    Raises:
        UserError: if something can't be used; a new search that had no trial yet leaves nothing behind.
        Interrupted: after ^C; `resume` goes on.
    """
    from afina.advice.search.budget import parse_budget
    from afina.pipeline.search.launch import resume_search, start_search
    from afina.pipeline.search.plan import SearchPlan, parse_techniques

    narrator = make_narrator(verbose)
    seconds = None if budget is None else parse_budget(budget)
    in_memory = data is not None and not isinstance(data, str | Path)
    if resume is not None:
        kept = {"data": None if in_memory else data, "model": model, "metric": metric, "techniques": techniques}
        check_resumed(resume, {**kept, "config": config, **settings}, trials)
        allowed, rows = parse_allowed(allow_changes), data if in_memory else None
        return Search(resume_search(resume, rows, storage, seconds, trials or 0, narrator, allowed))
    overrides = collect_overrides(None if in_memory else data, model, settings)
    description = load_config(config, overrides)
    check_given(description, in_memory, budget, trials, allow_changes)
    description = anchor_paths(description)
    plan = SearchPlan(
        description, tuple(sorted({*map(complete_key, overrides), *list_described(config)})), seconds or 0.0,
        parse_techniques(techniques), metric or "", trials or 0,
    )  # fmt: skip
    return Search(start_search(plan, data if in_memory else description.data.path, storage, narrator))


def collect_overrides(data: Any, model: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are given, by their keys; data and model among them where they are."""
    return join_settings([*name_inputs(model, data).items(), *collect_keywords(settings, search).items()])


def check_given(
    description: RunConfig, in_memory: bool, budget: str | None, trials: int | None, allow_changes: Any = ()
) -> None:
    """Refuse a new search without data, model or budget, of less than one trial, or with changes, all at once."""
    problems = list_missing(description, in_memory, "afina search DATA ...", "afina.search(data, model)")
    if budget is None:
        expected, remedy = "a time, such as 20m, 1h30m or 90s", "--budget 20m"
        problems.append(Problem("no budget was given", expected=expected, remedy=remedy))
    problems += list_too_few(trials)
    if not description.evaluation.score_test:
        what, expected = "a search scores the test part once, at its end", "evaluation.score_test = true"
        problems.append(Problem(what, "evaluation.score_test = false", expected, "leave evaluation.score_test out"))
    if allow_changes:
        found = f"allow_changes = {allow_changes!r} beside a new search"
        remedy = "leave it out, or afina search --resume FOLDER"
        problems.append(Problem("allow_changes is for a search that goes on", found=found, remedy=remedy))
    if problems:
        raise ConfigError(problems=problems)


def check_resumed(path: str | Path, kept: Mapping[str, Any], trials: int | None) -> None:
    """Refuse, for a search that goes on, what it keeps from its beginning, all at once; those of None aren't given."""
    problems = [
        Problem(
            f"a search that goes on keeps its {name}", found=f"{name} = {value!r} beside resume",
            expected="budget, trials, storage and rows that were in memory, or nothing",
            remedy=f"afina search --resume {shlex.quote(str(path))}, or a new search",
        )
        for name, value in kept.items() if value is not None
    ]  # fmt: skip
    problems += list_too_few(trials)
    if problems:
        raise ConfigError(problems=problems)


def list_too_few(trials: int | None) -> list[Problem]:
    """A problem for less than one trial."""
    if trials is None or trials >= 1:
        return []
    return [Problem("a search needs a trial", found=f"trials = {trials}", expected="1 or more")]
