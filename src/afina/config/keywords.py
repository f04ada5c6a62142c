"""Settings that are given as keywords of a Python function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from afina.config.load import is_section, list_keys, name_leaves
from afina.config.run import RunConfig
from afina.errors import ConfigError, Problem, find_close


def collect_keywords(settings: Mapping[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """The settings by their keys, for `load_config`, which judges them.

    Args:
        settings: the keywords that `function` has no parameter for.

    Raises:
        ConfigError: for a slip of one of its parameters, such as `metrik=`.
    """
    known = {*name_leaves(list_keys()), *RunConfig.model_fields}
    own = [name for name, each in inspect.signature(function).parameters.items() if each.kind != each.VAR_KEYWORD]
    nearest = {name: find_close(name, [*own, *known]) for name in settings if name not in known}
    slips = [
        Problem(f"unknown argument {name} of afina.{function.__name__}", remedy=f"did you mean {near}?")
        for name, near in nearest.items() if near in own
    ]  # fmt: skip
    if slips:
        raise ConfigError(problems=slips)
    return {key: value for name, given in settings.items() for key, value in spell_out(name, given).items()}


def spell_out(name: str, value: Any) -> dict[str, Any]:
    """A Python keyword as keys: `lora={"r": 8}` becomes `lora.r`, others stay as they are. Paths become strings."""
    if isinstance(value, Mapping) and is_section(name):
        return {f"{name}.{key}": as_text(inner) for key, inner in value.items()}
    return {name: as_text(value)}


def as_text(value: Any) -> Any:
    """A path as the string that a setting holds; anything else as it is."""
    return str(value) if isinstance(value, Path) else value
