"""Read a run's description from a YAML file and overrides, and say all that is wrong with it at once."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from afina.config.kinds import describe_kind
from afina.config.run import RunConfig, TechniqueName
from afina.config.unread import SECTIONS, group_unread, leave_unread_out
from afina.durable import expand_home
from afina.errors import ConfigError, Problem, describe_cause, find_close

LONGEST_FOUND = 200

# What other programs call some settings.
ALIASES = {
    "lr": "learning_rate", "epochs": "num_train_epochs", "batch_size": "per_device_train_batch_size",
    "max_length": "max_seq_length", "rank": "r", "alpha": "lora_alpha", "lora_r": "r", "lora_rank": "r",
    "num_epochs": "num_train_epochs", "micro_batch_size": "per_device_train_batch_size",
    "train_batch_size": "per_device_train_batch_size", "cutoff_len": "max_seq_length",
    "lora_target_modules": "target_modules", "lora_target": "target_modules", "fp16": "precision", "bf16": "precision",
    "warmup_steps": "warmup_ratio", "per_device_eval_batch_size": "eval_tokens_per_batch", "output_dir": "output",
    "eval_strategy": "eval_steps", "evaluation_strategy": "eval_steps", "save_strategy": "save_steps",
}  # fmt: skip
# What they have settings for, and what is done here instead.
WITHOUT_SETTING = {
    "load_best_model_at_end": "the checkpoint with the best main score on the validation rows is the result",
    "metric_for_best_model": "checkpoints are compared by the task's main score; afina search takes --metric",
    "optim": "the optimizer is AdamW",
    "report_to": "metrics.jsonl and report.json in the run's folder hold all figures, and nothing is sent anywhere",
    "dataloader_num_workers": "rows lie tokenised on disk, and nothing waits for them",
}


Description = str | Path | Mapping[str, Any] | RunConfig | None
"""A description as a person gives it: a YAML file, what would stand in one, or none."""


def load_config(description: Description = None, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """The description with `overrides` (keys such as `training.learning_rate`) on top.

    Raises:
        ConfigError: with one problem for each unknown key and each value that doesn't fit.
    """
    tree = read_description(description)
    problems: list[Problem] = []
    for key, value in (overrides or {}).items():
        try:
            place_value(tree, complete_key(key), value)
        except ConfigError as error:
            problems.extend(error.problems)
    return build_config(tree, problems)


def build_config(tree: Mapping[str, Any], problems: Sequence[Problem] = ()) -> RunConfig:
    """The checked description in `tree`, raising `ConfigError` for `problems` and those found here together."""
    found = list(problems)
    # A heading whose lines are all commented out.
    tree = {key: {} if value is None and is_section(key) else value for key, value in tree.items()}
    config = RunConfig()
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        found.extend(list_problems(error))
    found.extend(list_unread_by_technique(tree))
    if found:
        raise ConfigError(problems=found)
    return config


def read_description(description: Description) -> dict[str, Any]:
    """The settings that a description holds, as a tree of their own.

    Raises:
        ConfigError: if it is none, or its file can't be read.
    """
    if description is None:
        return {}
    if isinstance(description, RunConfig):
        return description.model_dump(exclude_unset=True)
    if isinstance(description, Mapping):
        return place_paths(copy.deepcopy(dict(description)))
    if isinstance(description, str | Path):
        return place_paths(read_yaml(expand_home(description)))
    raise ConfigError(
        "config is no description", found=f"an object of type {type(description).__name__}",
        expected="the path of a YAML file, a mapping such as one holds, or an afina.RunConfig",
    )  # fmt: skip


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; a key given twice is an error, since one of the two would be lost."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # a SafeLoader: data only
    except FileNotFoundError:
        raise ConfigError(f"no such config file: {path}", remedy="--config FILE with an existing YAML file") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: 2024-99-99, or 5,000 digits
        raise ConfigError(f"the config file {path} can't be read", found=describe_damage(error)) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(
            f"the config file {path} is not a mapping", found=type(tree).__name__, expected="key: value lines"
        )
    return tree


def place_paths(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with the values that are named by a whole path, such as `model.chat_template`, in their places.

    Raises:
        ConfigError: for settings that are given twice.
    """
    paths = [key for key in tree if "." in str(key) and key in list_keys()]
    values = {path: tree.pop(path) for path in paths}
    twice = sorted(values.keys() & set(list_given(tree)))
    if twice:
        raise ConfigError(
            f"the setting {twice[0]} is given twice", expected="one value", remedy="leave one of the two out"
        )
    for path, value in values.items():
        place_value(tree, path, value)
    return tree


def list_described(description: Description) -> list[str]:
    """The paths of the settings in a description."""
    return list_given(read_description(description))


def describe_damage(error: Exception) -> str:
    """What is wrong with a YAML file, and in which line."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return describe_cause(error, "the YAML reader")
    return f"{getattr(error, 'problem', '')} (line {mark.line + 1}, column {mark.column + 1})"


class _UniqueKeyLoader(yaml.SafeLoader):
    """A SafeLoader that refuses the same key twice in one mapping, and aliases: a few lines of them are gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, f"an alias, *{event.anchor}", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, (key, (key_node, _)) in enumerate(zip(keys, node.value, strict=True)):
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
        return super().construct_mapping(node, deep)


def parse_override(text: str) -> tuple[str, Any]:
    """Key and value of a `key=value` from the command line; the value is read as YAML (`2e-5`, `true`, `[a, b]`).

    The value of a setting that is a text (a column, a separator, a folder) is taken as it stands, since YAML would make
    a number of the column `2024` and nothing of the separator `|`. Only `null` stands for none there.
    """
    key, separator, value = text.partition("=")
    key = key.strip()
    if not separator or not key:
        raise ConfigError(f"--set {text!r} is not key=value", remedy="--set training.learning_rate=2e-5")
    if is_text(key):
        return key, None if value == "null" else value
    try:
        return key, yaml.load(value, Loader=_UniqueKeyLoader)
    except (ValueError, RecursionError, yaml.YAMLError):
        return key, value


def join_settings(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Settings by their full paths, from flags, `--set` and keywords; names that no setting has stay, to be judged.

    Raises:
        ConfigError: for those that are given twice with different values, of which one would be lost in silence.
    """
    found: dict[str, Any] = {}
    twice = []
    for key, value in pairs:
        path = find_path(key) or key
        if path in found and found[path] != value:
            shown = " and ".join(repr(each)[:LONGEST_FOUND] for each in (found[path], value))
            twice.append(Problem(f"the setting {path} is given twice", shown, "one value", "leave one of the two out"))
        found[path] = value
    if twice:
        raise ConfigError(problems=twice)
    return found


def is_text(key: str) -> bool:
    """Whether a setting (its path, or the last part of it) holds any text at all."""
    fields = list_fields().items()
    return any(field.annotation == str | None and key in (path, path.rpartition(".")[2]) for path, field in fields)


def is_section(name: Any) -> bool:
    """Whether `name` is a heading with settings under it."""
    info = RunConfig.model_fields.get(name)
    return info is not None and isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)


def complete_key(key: str) -> str:
    """The full path of a setting: `learning_rate` becomes `training.learning_rate`.

    Raises:
        ConfigError: for a name that no setting has, with the nearest one.
    """
    path = find_path(key)
    if path is None:
        raise ConfigError(problems=[describe_unknown(key)])
    return path


def find_path(key: str) -> str | None:
    """The full path of a setting that is named by it or by its last part; None for a name that no setting has."""
    paths = list_keys()
    ending = [key] if key in paths else [path for path in paths if path.rsplit(".", 1)[-1] == key]
    return ending[0] if len(ending) == 1 else None


def list_keys() -> list[str]:
    """The paths of all settings, such as `seed` and `training.learning_rate`."""
    return list(list_fields())


def list_fields(section: type[BaseModel] = RunConfig, prefix: str = "") -> dict[str, FieldInfo]:
    """The fields of all settings, by their paths."""
    fields: dict[str, FieldInfo] = {}
    for name, info in section.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            fields |= list_fields(inner, f"{prefix}{name}.")
        else:
            fields[prefix + name] = info
    return fields


def place_value(tree: dict[str, Any], key: str, value: Any) -> None:
    """Put `value` at the path `key` of nested mappings."""
    *sections, name = key.split(".")
    for section in sections:
        inner = tree[section] = {} if tree.get(section) is None else tree[section]
        if not isinstance(inner, dict):
            raise ConfigError(f"{section} holds settings and can't be a single value", found=repr(inner))
        tree = inner
    tree[name] = value


def list_problems(error: ValidationError) -> list[Problem]:
    """One problem for each setting that pydantic refused; the branches of a union count as one."""
    keys = [*list_keys(), *RunConfig.model_fields]
    problems: dict[str, Problem] = {}
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] in ("extra_forbidden", "invalid_key"):  # the latter is a key of YAML that is no text
            problems[key] = describe_unknown(key)
            continue
        while key not in keys and "." in key:
            key = key.rpartition(".")[0]
        if key not in keys:  # a key that no text can hold
            problems[key] = Problem("a setting has a name that can't be read", expected="a name such as seed")
            continue
        expected = "key: value lines" if is_section(key) else describe_kind(list_fields()[key])
        found = "nothing" if item["input"] is None else repr(item["input"])[:LONGEST_FOUND]
        problems[key] = Problem(f"the setting {key} doesn't fit", found=found, expected=expected)
    return list(problems.values())


def describe_section(name: str) -> Problem:
    """The problem of a heading that was given a value as if it were a setting."""
    inside = [path for path in list_keys() if path.startswith(f"{name}.")]
    leaf = inside[0].rpartition(".")[2]
    return Problem(
        f"{name} holds settings, and has no value", "", f"one of {', '.join(inside)}",
        f'--set {name}.NAME=VALUE, or in Python {name}={{"{leaf}": VALUE}}',
    )  # fmt: skip


def describe_unknown(key: str) -> Problem:
    """The problem of a key that no setting has, with the setting that was meant, or those that exist."""
    if is_section(key):
        return describe_section(key)
    section, _, leaf = key.rpartition(".")
    if leaf in WITHOUT_SETTING:
        return Problem(f"unknown setting {key}", remedy=f"leave it out: {WITHOUT_SETTING[leaf]}")
    every = name_leaves(list_keys() if section else [*list_keys(), *RunConfig.model_fields])
    inside = name_leaves(path for path in list_keys() if section and path.startswith(f"{section}.")) or every
    near = ALIASES.get(leaf) or find_close(leaf, inside) or find_close(leaf, every)
    if near:
        return Problem(f"unknown setting {key}", remedy=f"did you mean {inside.get(near) or every[near]}?")
    return Problem(f"unknown setting {key}", expected=f"one of {', '.join(sorted(inside))}")


def name_leaves(paths: Iterable[str]) -> dict[str, str]:
    """Paths of settings by their last part."""
    return {path.rpartition(".")[2]: path for path in paths}


def list_unread_by_technique(tree: Mapping[str, Any]) -> list[Problem]:
    """Problems for sections that were given though the chosen technique doesn't read them."""
    technique = str(tree.get("technique"))
    if technique not in get_args(TechniqueName):
        return []
    return [
        Problem(
            f"the technique {technique} doesn't read these settings", found=", ".join(paths),
            remedy=f"leave {'it' if len(paths) == 1 else 'them'} out, or --technique {readers[0]}",
        )
        for readers, paths in group_unread(technique, list_given(tree), SECTIONS).items()
    ]  # fmt: skip


def list_given(tree: Mapping[str, Any]) -> list[str]:
    """The paths of the settings in a description."""
    return [
        path
        for name, value in tree.items()
        for path in ([f"{name}.{inner}" for inner in value] if isinstance(value, Mapping) else [str(name)])
    ]


def flatten_settings(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The path and the value of every setting in a description; a value may be a mapping."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", each) for inner, each in value.items())
        else:
            yield name, value


def dump_config(config: RunConfig) -> str:
    """The description as YAML, without the settings that its technique doesn't read."""
    tree = leave_unread_out(config.model_dump(mode="json"), config.technique)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
