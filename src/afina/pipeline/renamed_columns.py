"""Rows whose columns have other names than those that a run learned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from afina.config.run import GENERATION
from afina.data.column_names import TEXT_TIERS, normalize_name
from afina.data.rows import RowTable
from afina.errors import ConfigError

ROLES = {
    "text_column": ("text",), "text_pair_column": ("text_pair",), "label_column": ("label",),
    "messages_column": ("messages",), "prompt_column": ("prompt", "instruction"),
    "completion_column": ("completion", "output"),
}  # fmt: skip
"""What a setting names, as task.json calls it: of several the one that a run has."""
USUAL_TEXTS = frozenset(name for tier in TEXT_TIERS for name in tier)

GivenColumns = Mapping[str, str | None]
"""Setting -> name of the column; None: that of the rows it was trained on."""


def rename_columns(stored: Mapping[str, Any], given: GivenColumns) -> dict[str, Any]:
    """task.json of a run with the names that these rows have for its columns.

    Raises:
        ConfigError: for a column that this run doesn't read.
    """
    columns = dict(stored["columns"])
    for setting, name in given.items():
        if name is None:
            continue
        roles = ROLES[setting]
        if setting == "prompt_column" and stored["task"] == GENERATION:  # a plain text asks, whatever was learned
            roles = (*roles, "messages", "text")
        role = next((role for role in roles if columns.get(role)), None)
        if role is None:
            raise ConfigError(
                f"this run doesn't read what is named by {write_flag(setting)}", found=repr(name),
                expected=", ".join(f"{write_flag(known)} NAME" for known in list_settings(columns)),
            )  # fmt: skip
        columns[role] = name
    return {**stored, "columns": columns}


def map_flags(stored: Mapping[str, Any]) -> dict[str, str]:
    """The columns of a run, each with the flag that names another one."""
    names = stored["columns"]
    roles = [(write_flag(setting), role) for setting, known in ROLES.items() for role in known]
    return {names[role]: flag for flag, role in roles if names.get(role)}


def list_settings(columns: Mapping[str, Any]) -> list[str]:
    """The settings that name a column of this run."""
    return [setting for setting, roles in ROLES.items() if any(columns.get(role) for role in roles)]


def write_flag(setting: str) -> str:
    """As it is written on the command line."""
    return f"--{setting.replace('_', '-')}"


def find_text_names(table: RowTable, learned: list[str], note: Callable[[str], None]) -> list[str]:
    """The text columns that the model has learned from; where the only one isn't there and the table has but one
    column, or one with a usual name, that one, and a word on it."""
    if len(learned) != 1 or learned[0] in table.kinds:
        return learned
    usual = [name for name in table.names if len(table.names) == 1 or normalize_name(name) in USUAL_TEXTS]
    if len(usual) != 1:
        return learned
    note(f"texts are taken from {usual[0]!r}, for there is no column {learned[0]!r}; --text-column NAME names another")
    return usual
