"""One row of a conversation, whatever the file's form: checked, and written the same way.

Names of speakers in data from other tools become those that chat templates know; keys that hold nothing are dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from afina.data.chat_messages import CALLER, name_speaker
from afina.data.chat_template import ChatFaultError
from afina.data.conversation_columns import MESSAGES_EXPECTED, OPTIONAL, ConversationColumns, parse_objects

# Keys of a row in each form whose cells are texts; the optional ones are "" where the file has none.
TEXT_KEYS = {
    "completion": ("prompt", "completion"),
    "instruction": ("instruction", "input", "output", "system"),
    "text": ("text",),
}
ANSWERS = ("completion", "output")
NO_ROLE = "a message without role and content"
write_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class ConversationFaultError(ValueError):
    """A row that can't be used: the role of the cell, what is wrong with it, and what was expected."""

    def __init__(self, role: str, reason: str, expected: str, value: Any) -> None:
        super().__init__(reason)
        self.role, self.reason, self.expected = role, reason, expected
        self.found = "an empty cell" if value is None else json.dumps(value, ensure_ascii=False)[:60]


def normalize_row(cells: Mapping[str, Any], columns: ConversationColumns) -> dict[str, Any]:
    """The row from its cells by role. ConversationFaultError where it can't be used.

    messages: `messages`, each with role and content, and `tools` (None where there are none); a system message of a
    column of its own stands first. A prompt and a completion
    of messages are joined, and `prompt_messages` tells how many are the prompt's. Other forms: see `TEXT_KEYS`.
    """
    if columns.form != "messages":
        if columns.has_values:
            cells = {role: write_answer(value) if role in ANSWERS else value for role, value in cells.items()}
        return {role: read_text(role, cells.get(role)) for role in TEXT_KEYS[columns.form]}
    roles = [role for role in columns.names if role not in OPTIONAL]
    lists = [read_messages(role, cells[role]) for role in roles]
    lists[0] = put_system_first(lists[0], cells.get("system"))
    row = {"messages": [message for each in lists for message in each], "tools": read_tools(cells.get("tools"))}
    return row if len(lists) == 1 else {**row, "prompt_messages": len(lists[0])}


def put_system_first(messages: Sequence[Mapping[str, Any]], system: Any) -> list[Any]:
    """The messages after the system message of a column of its own, where they have none. ConversationFaultError where
    the cell is no text."""
    text = read_text("system", system)
    if not text or messages[0]["role"] in ("system", "developer"):
        return list(messages)
    return [{"role": "system", "content": text}, *messages]


def read_text(role: str, value: Any) -> str:
    """The text of a cell, "" where an optional one is empty. ConversationFaultError where there is none."""
    article = "an" if role[0] in "aeiou" else "a"
    if value is not None and not isinstance(value, str):
        raise ConversationFaultError(role, f"{article} {role} that is a number, a list or an object", "text", value)
    if value and value.strip():
        return value
    if role in OPTIONAL:
        return ""
    raise ConversationFaultError(role, f"no {role}", "text that is more than white space", value)


def write_answer(value: Any) -> Any:
    """A number, an object or a list as the text that a model learns; messages, and what JSON lacks, as they are."""
    if value is None or isinstance(value, str) or is_messages(value):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        return value


def is_messages(value: Any) -> bool:
    """Whether a cell holds messages, or one, rather than other objects."""
    listed = value if isinstance(value, list) else [value]
    return any(isinstance(item, dict) and not item.keys().isdisjoint(("role", "from")) for item in listed)


def read_messages(role: str, value: Any) -> list[dict[str, Any]]:
    """The messages of a cell, each with role and content. ConversationFaultError where they aren't such a list."""
    objects = parse_objects(value, is_json=role == "messages")
    if objects is None and value is not None and value != "":
        what = "messages that are" if role == "messages" else f"a {role} that is"
        raise ConversationFaultError(role, f"{what} not a list of objects", MESSAGES_EXPECTED, value)
    if not objects:
        raise ConversationFaultError(role, f"no {role}", MESSAGES_EXPECTED, value)
    return [_read_message(role, message) for message in objects]


def _read_message(role: str, message: dict[str, Any]) -> dict[str, Any]:
    """The message with the keys role and content first; it may have been written with from and value."""
    if message.keys().isdisjoint(("content", "value", "tool_calls", CALLER)):
        raise ConversationFaultError(role, NO_ROLE, MESSAGES_EXPECTED, message)
    try:
        named = name_speaker(message)
    except ChatFaultError as fault:
        raise ConversationFaultError(role, str(fault), MESSAGES_EXPECTED, message) from None
    if not isinstance(named["role"], str):
        raise ConversationFaultError(role, NO_ROLE, MESSAGES_EXPECTED, message)
    return {"role": named.pop("role"), "content": _drop_nulls(named.pop("content")), **_drop_nulls(named)}


def read_tools(value: Any) -> list[dict[str, Any]] | None:
    """The tools of a cell, None where there are none. ConversationFaultError where they aren't a list of objects."""
    tools = parse_objects(value, is_json=True)
    if tools is None and value is not None and value != "":
        raise ConversationFaultError(
            "tools", "tools that are not a list of objects", "a list of functions, or nothing", value
        )
    return _drop_nulls(tools) or None


def _drop_nulls(value: Any) -> Any:
    """`value` without keys that hold null: parquet writes one for each key that only other rows have."""
    if isinstance(value, dict):
        return {key: _drop_nulls(item) for key, item in value.items() if item is not None}
    return [_drop_nulls(item) for item in value] if isinstance(value, list) else value


def find_prompt(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What is asked in a normalised row: rows that agree in it stay on one side of the split."""
    if "messages" not in row:
        return tuple(row[key] for key in ("instruction", "input", "prompt", "text") if key in row)
    messages, is_asked = row["messages"], False
    for i, message in enumerate(messages):
        # A greeting by the assistant asks nothing: it would be the whole prompt of all rows that begin with it.
        if message["role"] == "assistant" and is_asked:
            messages = messages[:i]
            break
        is_asked = is_asked or message["role"] not in ("assistant", "system", "developer")
    contents = [message["content"] for message in messages]
    return tuple(content if isinstance(content, str) else write_json(content) for content in contents)
