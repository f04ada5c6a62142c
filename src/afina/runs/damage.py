"""What is said of a run's folder that lacks something, and advice that helps with what is still there."""

from __future__ import annotations

import shlex
from pathlib import Path

from afina.errors import RunFolderError
from afina.runs.names import ENDINGS

COPY = "copy the folder of the run again"
# A search's trials leave these for its best one.
SCORED_WHOLLY = "--score-test true --baselines true --generation-samples 8 --general-text true"


def advise_training(config: Path, *, has_data: bool = True) -> str:
    """The command that trains a run anew from its own description."""
    return f"train it anew: afina train{'' if has_data else ' DATA'} --config {shlex.quote(str(config))} --output NEW"


def make_missing_error(folder: Path, name: str, config: Path, *, is_finished: bool) -> RunFolderError:
    """The error for a file that isn't there: not yet, where going on with the run will write it, or no longer."""
    if not is_finished and name in ENDINGS:
        return RunFolderError(
            f"{folder} has no {name}; the run isn't finished", remedy=f"afina resume {shlex.quote(str(folder))}"
        )
    what = f"{folder} has no {name}, which {'a finished run' if is_finished else 'every run that goes on'} has"
    return RunFolderError(what, remedy=f"{COPY}, or {advise_training(config)}")


def make_no_model_error(folder: Path, config: Path, *, is_trial: bool, has_data: bool) -> RunFolderError:
    """The error for a finished run without its model.

    Args:
        is_trial: whether it is one of a search's.
        has_data: whether the description names the data.
    """
    again = advise_training(config, has_data=has_data)
    if is_trial:
        return RunFolderError(
            f"{folder} holds no model; a search keeps those of its best trial and of the default",
            remedy=f"{again} {SCORED_WHOLLY}",
        )
    return RunFolderError(f"{folder} holds no model, though the run is finished", remedy=f"{COPY}, or {again}")


def make_description_error(config: Path) -> RunFolderError:
    """The error for a config.yaml that names no model, which every run does: an empty one, say."""
    is_empty = not config.read_bytes().strip()
    return RunFolderError(
        f"{config} is not what a run writes", found="an empty file" if is_empty else "no model.reference",
        expected="the description of the run", remedy=f"{COPY}, or start a new run with afina train",
    )  # fmt: skip
