"""The description of a run on disk: what the run itself has written there, and whether it is still that.

origin.json holds every description that a run wrote, the newest last; it is written before config.yaml, so that a kill
between the two is no change by another hand.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from afina.config.load import dump_config, flatten_settings
from afina.config.run import RunConfig
from afina.errors import RunFolderError
from afina.pipeline.narrator import Narrator
from afina.runs.damage import advise_training
from afina.runs.folder import RunFolder
from afina.runs.names import CONFIG, ORIGIN

CHANGED = "changed since the run began: "
# They decide which rows are held out: another split would put learned rows among those.
SPLITTING = ("seed", "task", "data.validation_fraction", "data.test_fraction", "data.label_separator")
# Where things lie, and whether features are kept. What lies there is compared by its hash.
PLACES = frozenset({"output", "data.path", "model.reference", "features.cache"})


def rewrite_description(folder: RunFolder, config: RunConfig) -> None:
    """Another config.yaml by the run itself: of an `auto` run that kept the head, or of a trial that is widened."""
    if (folder.path / ORIGIN).exists():
        keep_settings(folder, config)
    folder.write_text(CONFIG, dump_config(config))


def keep_settings(folder: RunFolder, config: RunConfig) -> None:
    """Add the description to those of origin.json."""
    origin, settings = folder.read_json(ORIGIN), list_settings(config)
    written = origin.get("settings", [])
    if written[-1:] != [settings]:
        folder.write_json(ORIGIN, origin | {"settings": [*written, settings]})


def list_settings(config: RunConfig) -> dict[str, Any]:
    """The settings as config.yaml holds them."""
    tree: dict[str, Any] = yaml.safe_load(dump_config(config))
    return tree


def check_description(folder: RunFolder, config: RunConfig, narrator: Narrator) -> None:
    """Say what was changed in config.yaml since the run wrote it, or refuse it.

    Raises:
        RunFolderError: unless `config` is allowed; for what decides which rows are held out in any case.
    """
    changed = find_changed(folder, config)
    if not changed:
        return
    shown = show_changed(changed)
    if splitting := [name for name in SPLITTING if name in changed]:
        raise RunFolderError(
            f"{folder.config} was changed since the run began, in what decides which rows are held out", found=shown,
            expected="as the run wrote it", remedy=f"write {', '.join(splitting)} back as it was,"
            f" or {advise_training(folder.config)}",
        )  # fmt: skip
    if "config" not in folder.allowed_changes:
        raise RunFolderError(
            f"{folder.config} was changed since the run began", found=shown, expected="as the run wrote it",
            remedy="write it back as it was, or go on all the same with --allow-changes config",
        )  # fmt: skip
    narrator.note(f"{CHANGED}{shown}")
    keep_settings(folder, config)


def check_as_written(folder: RunFolder, config: RunConfig) -> None:
    """Refuse to use the result of a run by another description than the one it was trained by.

    Raises:
        RunFolderError: naming the settings that were changed.
    """
    if changed := find_changed(folder, config):
        raise RunFolderError(
            f"{folder.config} was changed since the run wrote it, and tells how its model is used",
            found=show_changed(changed), expected="as the run wrote it",
            remedy=f"write it back as it was, or {advise_training(folder.config)}",
        )  # fmt: skip


def find_changed(folder: RunFolder, config: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that are none of those that the run has written, with both values."""
    if not (folder.path / ORIGIN).exists():
        return {}  # which is said where model and versions are compared
    found = [list_changed(each, list_settings(config)) for each in folder.read_json(ORIGIN).get("settings", [])]
    return {} if not found or {} in found else found[-1]


def show_changed(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """The settings with what they were and are."""
    return ", ".join(f"{name} {before} -> {now}" for name, (before, now) in changed.items())


def list_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, with both values; those that one of the two doesn't name have their defaults."""
    defaults = dict(flatten_settings(RunConfig().model_dump(mode="json")))
    first, second = (defaults | dict(flatten_settings(tree)) for tree in (before, now))
    return {
        name: (first.get(name), second.get(name)) for name in sorted({*first, *second} - PLACES)
        if first.get(name) != second.get(name)
    }  # fmt: skip


def find_rows(folder: RunFolder, config: RunConfig, data: Any, verb: str) -> Any:
    """The rows of a run that goes on, or is repeated: those that are given, or where they were when it began.

    Raises:
        RunFolderError: if they were in memory, or are no longer there.
    """
    path, run = config.data.path, shlex.quote(str(folder.path))
    if data is not None:
        return data
    if path is None:
        raise RunFolderError(
            f"the data of {folder.path} was in memory, so it must be given again",
            remedy=f"afina.{verb}(run, data=rows)",
        )
    if is_lost(path):
        raise RunFolderError(
            f"the data of {folder.path} is no longer where it was", found=f"nothing at {path}",
            remedy=f"afina {verb} {run} --data PATH, with the place where it is now",
        )  # fmt: skip
    return path


def check_model_place(folder: RunFolder, config: RunConfig) -> None:
    """Refuse a run whose model is no longer where it was, with a way to say where it is.

    Raises:
        RunFolderError: so.
    """
    reference = str(config.model.reference)
    if is_lost(reference):
        raise RunFolderError(
            f"the model of {folder.path} is no longer where it was", found=f"nothing at {reference}",
            remedy=f"write the place where it is now as model.reference into {folder.config}",
        )  # fmt: skip


def is_lost(reference: str) -> bool:
    """Whether something of this machine is no longer there; a run keeps whole paths of what was."""
    return os.path.isabs(reference) and not os.path.exists(reference)
