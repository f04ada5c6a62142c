"""What a run began with, and what has changed since: the model, the versions, the machine.

origin.json is written when a run begins. Rows are kept by their hash in data.json and can't be exchanged: another split
would put rows that were learned from among those that are held out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from afina import __version__
from afina.config.load import dump_config
from afina.config.run import BUILT_IN_TEMPLATES, RunConfig
from afina.errors import ConfigError, Problem, RunFolderError
from afina.models.fingerprint import hash_model
from afina.pipeline.description import CHANGED, list_settings
from afina.pipeline.environment import PACKAGES, describe_environment
from afina.pipeline.narrator import Narrator
from afina.runs.folder import RunFolder
from afina.runs.names import CONFIG, DATA, ORIGIN

ALLOWED = ("config", "device", "model", "versions")
"""What `--allow-changes` takes."""
MACHINE = ("cpu", "gpu", "kernel", "system", "python", "threads")
HASH_SHOWN = 16
LAST_BITS = "; from here on the weights may differ in their last bits from those of a run that nobody stopped"


def pin_run(
    folder: RunFolder, config: RunConfig, base: Path, data_hash: str, data: dict[str, Any], narrator: Narrator
) -> None:
    """Write down what a run begins with, in config.yaml, data.json and origin.json; of one that is resumed, check that
    it is the same still.

    Args:
        base: folder of the model.

    Raises:
        RunFolderError: if the rows aren't those that the run began with, or something else has changed.
    """
    origin = describe_origin(base, config.training.device, config.model.chat_template)
    if folder.config.exists():
        check_rows(folder, data_hash)
        check_origin(folder, origin, narrator)
        return
    folder.write_json(DATA, data)
    folder.write_json(ORIGIN, origin | {"settings": [list_settings(config)]})
    folder.write_text(CONFIG, dump_config(config))


def check_rows(folder: RunFolder, data_hash: str) -> None:
    """Refuse other rows than those that the run began with."""
    known = folder.read_json(DATA)["hash"]
    if known != data_hash:
        raise RunFolderError(
            f"the data of {folder.path} has changed since the run began",
            found=data_hash[:HASH_SHOWN],
            expected=known[:HASH_SHOWN],
            remedy="bring the same rows back, or start a new run with afina train",
        )


def describe_origin(base: Path, device: str, template: str = "auto") -> dict[str, Any]:
    """What the numbers of a run depend on beside its description and its rows: hashes of the model and of the file that
    is its chat template (None: there is no such file), versions, machine.

    Args:
        template: the setting `model.chat_template`.
    """
    known = describe_environment(device)
    versions = {"afina": __version__, **{name: known[name] for name in PACKAGES if name in known}}
    machine = {name: known[name] for name in MACHINE if name in known}
    return {
        "model": hash_model(base), "template": hash_template(template), "versions": versions,
        "machine": machine | {"threads": count_threads()},
    }  # fmt: skip


def hash_template(wanted: str) -> str | None:
    """The sha256 of the file that a setting names; None where it names none, or none that can be read."""
    if wanted in BUILT_IN_TEMPLATES:
        return None
    path = Path(wanted)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    except (OSError, ValueError):
        return None


def count_threads() -> int:
    """Threads of one matrix product on the CPU."""
    import torch

    return torch.get_num_threads()


def parse_allowed(text: str | Collection[str] | None) -> frozenset[str]:
    """The names in `model,versions`.

    Raises:
        ConfigError: if one isn't known.
    """
    names = text.split(",") if isinstance(text, str) else list(text or ())
    found = frozenset(name.strip() for name in names if name.strip())
    unknown = sorted(found - set(ALLOWED))
    if "data" in unknown:
        raise ConfigError(
            "the data of a run can't change: another split would put learned rows among those that are held out",
            remedy="a new run with afina train",
        )
    if unknown:
        raise ConfigError(
            f"unknown change: {', '.join(unknown)}", found=f"allow_changes = {','.join(sorted(found))}",
            expected=f"some of {', '.join(ALLOWED)}",
        )  # fmt: skip
    return found


def check_origin(folder: RunFolder, origin: Mapping[str, Any], narrator: Narrator) -> None:
    """Say what has changed since a run began that goes on now, or refuse it.

    Args:
        origin: what there is now, see `describe_origin`.

    Raises:
        RunFolderError: with every change that isn't allowed.
    """
    if not (folder.path / ORIGIN).exists():
        narrator.note(f"what has changed since the run began is not known: {folder.path} has no {ORIGIN}")
        return
    refused = []
    for kind, change in list_changes(folder.read_json(ORIGIN), origin).items():
        if kind == "machine" or kind in folder.allowed_changes:
            narrator.note(f"{CHANGED}{change}{'' if kind == 'model' else LAST_BITS}")
        else:
            refused.append(make_change_problem(folder, kind, change))
    if refused:
        raise RunFolderError(problems=refused)


def list_changes(began: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """What differs, in words, by kind: `model`, `versions`, `machine`."""
    changes = {}
    if began.get("model") != now["model"]:
        before, after = str(began.get("model"))[:HASH_SHOWN], now["model"][:HASH_SHOWN]
        changes["model"] = f"the model's files {before} -> {after}"
    if "template" in began and began["template"] != now["template"]:
        before, after = (str(each or "no file")[:HASH_SHOWN] for each in (began["template"], now["template"]))
        found = f"the file of the chat template {before} -> {after}"
        changes["model"] = "; ".join([*filter(None, [changes.get("model")]), found])
    for kind in ("versions", "machine"):
        known = began.get(kind) or {}
        differing = [
            f"{name} {known.get(name, 'absent')} -> {now[kind].get(name, 'absent')}"
            for name in sorted({*known, *now[kind]}) if known.get(name) != now[kind].get(name)
        ]  # fmt: skip
        if differing:
            changes[kind] = ", ".join(differing)
    return changes


def settle_device(config: RunConfig, folder: RunFolder, narrator: Narrator) -> RunConfig:
    """The description with a device that this machine has.

    Raises:
        RunFolderError: if it hasn't that of the run, and another one isn't allowed.
    """
    wanted = config.training.device
    if wanted == "cpu" and "device" not in folder.allowed_changes:
        return config
    from afina.training.precision import choose_device

    try:
        device = choose_device("auto" if "device" in folder.allowed_changes else wanted).value
    except ConfigError as error:
        raise RunFolderError(
            f"{folder.path} began on a {wanted} device, which this machine doesn't have",
            found=error.problems[0].found, expected=wanted,
            remedy="go on all the same with --allow-changes device",
        ) from None  # fmt: skip
    if device != wanted:
        narrator.note(f"{CHANGED}device {wanted} -> {device}{LAST_BITS}")
    return config.model_copy(update={"training": config.training.model_copy(update={"device": device})})


def make_change_problem(folder: RunFolder, name: str, change: str) -> Problem:
    """The problem of a change that may not be meant."""
    what = {"model": "the model of {} has", "versions": "the libraries of {} have"}[name].format(folder.path)
    return Problem(
        f"{what} changed since the run began", found=change,
        remedy=f"bring back what it began with, or go on all the same with --allow-changes {name}",
    )  # fmt: skip
