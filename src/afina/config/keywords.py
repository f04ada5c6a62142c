"""Settings that are given as keywords of a Python function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from afina.config.load import (
    describe_section,
    find_path,
    is_section,
    join_settings,
    list_keys,
    name_leaves,
    parse_override,
)
from afina.config.run import RunConfig
from afina.errors import ConfigError, Problem, find_close

ORDER = "in Python the order is afina.fit(model, data), but (data, model) for afina.search, afina.plan and afina.check"


def name_inputs(model: Any, data: Any) -> dict[str, str]:
    """The settings that say what is learned and from where; rows in memory have no name.

    Raises:
        ConfigError: if `model` is neither a name nor a path, as where the two were given in each other's place.
    """
    if model is not None and not isinstance(model, str | Path):
        raise ConfigError(
            "model must be a folder, a Hub id or package:NAME/PATH", found=f"a {type(model).__name__}",
            expected='a string or a path, such as "bert-base-uncased"',
            remedy=ORDER,
        )  # fmt: skip
    given = {"model.reference": model, "data.path": data if isinstance(data, str | Path) else None}
    return {name: str(value) for name, value in given.items() if value is not None}


def collect_keywords(settings: Mapping[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """The settings by their keys, for `load_config`, which judges them.

    Args:
        settings: the keywords that `function` has no parameter for.

    Raises:
        ConfigError: for a slip of one of its parameters, such as `metrik=`, and for a setting that is given twice.
    """
    known = {*name_leaves(list_keys()), *RunConfig.model_fields}
    own = [name for name, each in inspect.signature(function).parameters.items() if each.kind != each.VAR_KEYWORD]
    nearest = {name: find_close(name, [*own, *known]) for name in settings if name not in known and not find_path(name)}
    slips = [
        Problem(f"unknown argument {name} of afina.{function.__name__}", remedy=f"did you mean {near}?")
        for name, near in nearest.items() if near in own
    ]  # fmt: skip
    if slips:
        raise ConfigError(problems=slips)
    return join_settings(pair for name, given in settings.items() for pair in spell_out(name, given).items())


def collect_flags(texts: Iterable[str], function: Callable[..., Any]) -> dict[str, Any]:
    """The settings of a command line, by their full paths, as keywords of `function`.

    Args:
        texts: `key=value`, of `--set` and of flags that are a setting's name.

    Raises:
        ConfigError: for a setting that is given twice, and for what is no setting, but a parameter of the function.
    """
    settings = join_settings(
        pair for name, value in map(parse_override, texts) for pair in spell_out(name, value).items()
    )
    own = inspect.signature(function).parameters
    odd = [name for name in settings if is_section(name) or (name in own and find_path(name) is None)]
    if odd:
        raise ConfigError(problems=[describe_odd(name) for name in odd])
    return settings


def describe_odd(name: str) -> Problem:
    """The problem of a `--set` with the name of a section, or of a flag that is no setting."""
    if is_section(name):
        return describe_section(name)
    return Problem(f"{name} is no setting", remedy=f"the flag or argument of this name, not --set {name}=...")


def spell_out(name: str, value: Any) -> dict[str, Any]:
    """A Python keyword as keys: `lora={"r": 8}` becomes `lora.r`, others stay as they are. Paths become strings."""
    if isinstance(value, Mapping) and is_section(name):
        return {f"{name}.{key}": as_text(inner) for key, inner in value.items()}
    return {name: as_text(value)}


def as_text(value: Any) -> Any:
    """A path as the string that a setting holds; anything else as it is."""
    return str(value) if isinstance(value, Path) else value
