"""A run once more, and whether its weights are the same bits: a thin layer beside `api`, as `searches` is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from afina.config.load import dump_config
from afina.config.run import GENERATION, RunConfig
from afina.durable import expand_home
from afina.errors import Interrupted, RunFolderError
from afina.isolation import isolated
from afina.pipeline.changes import LAST_BITS
from afina.pipeline.description import CHANGED, find_rows
from afina.pipeline.launch import resume_run
from afina.pipeline.narrator import make_narrator
from afina.runs.creation import make_folder
from afina.runs.folder import AnyRun, RunFolder, open_run
from afina.runs.names import CONFIG, DATA, ORIGIN, REPORT
from afina.runs.weights import TensorDifference, compare_weights

SHOWN = 5
MAY_BE_CACHED = (
    "the run may have taken features from the cache and its repetition computed them, in other batches, whose last bits"
    " differ: a run with features.cache=false repeats exactly"
)


@dataclass(frozen=True)
class Reproduction:
    """A run and its repetition, compared."""

    run: Path
    again: Path
    """Folder of the repetition."""
    tensors: int
    differing: list[TensorDifference]
    metrics: dict[str, tuple[float | None, float | None]]
    """Scores that differ, before and now."""
    changes: list[str]
    """What has changed since the run began: versions and machine."""
    uses_cache: bool = False
    """Whether the run could take features from the cache, as its repetition doesn't."""

    @property
    def is_equal(self) -> bool:
        """Whether every weight has the same bits and every score is the same number."""
        return not self.differing and not self.metrics

    def to_dict(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "run": str(self.run),
            "again": str(self.again),
            "equal": self.is_equal,
            "tensors": self.tensors,
            "differing": [asdict(each) for each in self.differing],
            "metrics": {name: list(values) for name, values in self.metrics.items()},
            "changes": self.changes,
            "uses_cache": self.uses_cache,
        }

    def __str__(self) -> str:
        lines = [f"changed since the run began: {change}" for change in self.changes]
        if self.is_equal:
            lines.append(f"equal: all {self.tensors} tensors have the same bits, and all scores are the same")
        else:
            lines += [f"{len(self.differing)} of {self.tensors} tensors differ", *self._list_tensors()]
            lines += [f"  {name} {before} -> {now}" for name, (before, now) in self.metrics.items()]
            lines += [MAY_BE_CACHED] if self.uses_cache else []
        return "\n".join([*lines, f"again   {self.again}"])

    def _list_tensors(self) -> list[str]:
        """Lines on the tensors that differ most."""
        worst = sorted(self.differing, key=lambda each: -(each.largest or float("inf")))
        return [
            f"  {each.name} ({each.file}): {each.differing:,} of {each.values:,} values"
            + (f", by {each.largest:.1e} at most" if each.largest is not None else ", not of the same form")
            for each in worst[:SHOWN]
        ] + (["  ..."] if len(worst) > SHOWN else [])


@isolated
def reproduce(run: AnyRun, data: Any = None, *, output: str | Path | None = None, verbose: bool = True) -> Reproduction:
    """The run once more in a new folder, with the same settings, and what differs.

    Features are computed afresh, whatever the cache holds.

    Args:
        data: the rows again, for a run whose data was in memory or lies elsewhere now.
        output: folder of the repetition, new or empty; by default beside the run.

    Raises:
        RunFolderError: if the run isn't finished, or its data or its model has changed.
    """
    folder, narrator = open_run(run), make_narrator(verbose)
    report = folder.read_json(REPORT)
    folder.check_model()
    config = folder.read_description()
    source = find_rows(folder, config, data, "reproduce")
    again = begin_again(folder, config, expand_home(output) if output else name_repetition(folder.path))
    try:
        resume_run(again.read_description(), again, source, narrator)
    except RunFolderError as error:
        again.discard()
        raise speak_of(folder, again, error) from None
    except Interrupted as stop:  # what was begun would be resumed as a run, and compared with nothing
        again.discard()
        raise Interrupted(stop.exit_code, folder.path, "reproduce") from None
    repeated = again.read_json(REPORT)
    scores = compare_scores(report["metrics"], repeated["metrics"])
    uses_cache = bool(config.features.cache) and report["task"] != GENERATION
    return Reproduction(
        folder.path, again.path, *compare_weights(folder, again), scores, list_changes(repeated), uses_cache
    )


def begin_again(folder: RunFolder, config: RunConfig, path: Path) -> RunFolder:
    """A new folder that holds what the run began with, so that everything is checked as when a run goes on."""
    again = make_folder(path)
    again.allowed_changes = frozenset({"versions"})  # they are said, and are part of the answer
    for name in (DATA, ORIGIN):
        if (folder.path / name).exists():
            shutil.copy(folder.path / name, again.path / name)
    features = config.features.model_copy(update={"cache": False})
    again.write_text(CONFIG, dump_config(config.model_copy(update={"output": str(path), "features": features})))
    return again


def name_repetition(run: Path) -> Path:
    """RUN-again, with a number after it if that is taken."""
    path, number = run.with_name(f"{run.name}-again"), 2
    while path.exists():
        path, number = run.with_name(f"{run.name}-again-{number}"), number + 1
    return path


def speak_of(folder: RunFolder, again: RunFolder, error: RunFolderError) -> RunFolderError:
    """The refusal, in the name of the run that can't be repeated rather than of its copy."""
    problems = [
        replace(problem, what=problem.what.replace(str(again.path), str(folder.path)), remedy="bring it back as it was")
        for problem in error.problems
    ]
    return RunFolderError(f"{folder.path} can't be reproduced", problems=problems)


def compare_scores(
    before: Mapping[str, float], now: Mapping[str, float]
) -> dict[str, tuple[float | None, float | None]]:
    """Scores that aren't the same number."""
    return {
        name: (before.get(name), now.get(name))
        for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)
    }  # fmt: skip


def list_changes(report: Mapping[str, Any]) -> list[str]:
    """What the repetition noted: versions and machine that aren't those of the run."""
    notes = [note for note in report["notes"] if note.startswith(CHANGED)]
    return [note.removeprefix(CHANGED).removesuffix(LAST_BITS) for note in notes]
