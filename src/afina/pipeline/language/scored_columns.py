"""Which columns of other rows hold what a run's language model is scored on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from afina.data.columns import check_columns
from afina.data.conversation_columns import (
    OPTIONAL,
    ConversationColumns,
    Form,
    choose_conversation_columns,
    holds_values,
)
from afina.data.rows import RowTable
from afina.errors import ConfigError, DataError
from afina.pipeline.renamed_columns import GivenColumns, map_flags, rename_columns

# Forms of rows that a model can be scored on, whatever it has learned from: by whether it has a chat template.
FORMS: Mapping[bool, tuple[Form, ...]] = {
    True: ("messages", "completion", "instruction"),
    False: ("completion", "instruction", "text"),
}

KINDS: Mapping[Form, str] = {
    "messages": "conversations", "completion": "prompts and their answers", "text": "plain texts",
    "instruction": "instructions and their answers",
}  # fmt: skip


def find_scored_columns(
    table: RowTable, stored: Mapping[str, Any], given: GivenColumns, note: Callable[[str], object]
) -> ConversationColumns:
    """The columns that the run has learned from, under the names that are given; where they aren't there, those of
    another form that can be scored, and a word on it.

    Args:
        stored: task.json of the run.

    Raises:
        DataError: if the rows have neither.
        ConfigError: for a column that can't be scored.
    """
    named = {setting: name for setting, name in given.items() if name}
    try:
        renamed = rename_columns(stored, named)
    except ConfigError:
        other = find_other_form(table, stored, named)
        if other is None:
            raise
        return other
    names = renamed["columns"]
    needed = [name for role, name in names.items() if role not in OPTIONAL]
    if not named and not all(name in table.kinds for name in needed):
        other = find_other_form(table, stored, {})
        if other is not None:
            learned, reason = KINDS[stored["form"]], other.reasons[0].reason
            note(f"the rows are scored as {KINDS[other.form]}: {reason}; the model has learned from {learned}")
            return other
    check_columns(table, needed, map_flags(renamed))
    answer = names.get("completion") or names.get("output")
    has_values = stored["form"] != "messages" and bool(answer) and holds_values(table, str(answer))
    return ConversationColumns(stored["form"], names, has_values=has_values)


def find_other_form(table: RowTable, stored: Mapping[str, Any], named: Mapping[str, str]) -> ConversationColumns | None:
    """The columns as training would choose them, if the model can be scored on such rows."""
    try:
        found = choose_conversation_columns({"all": table}, **named)
    except DataError:
        return None
    return found if found.form in FORMS[stored["has_template"]] else None
