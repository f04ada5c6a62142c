"""The messages of a conversation, and its tools, checked and in the shape that chat templates take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afina.data.chat_template import ChatFaultError, Message
from afina.data.json_formats import STRICT_DECODER, fault_of

ROLES = ("system", "developer", "user", "assistant", "tool")
SHAREGPT_ROLES = {
    "human": "user", "gpt": "assistant", "function_call": "assistant",
    "observation": "tool", "function_response": "tool",
}  # fmt: skip

NO_LIST = "messages that aren't a list of objects"
NO_MESSAGES = "no messages"
NO_ROLE = "a message without a role"
UNKNOWN_ROLE = "a message of an unknown role"
NO_CONTENT = "a message without content"
NOT_TEXT = "a message whose content isn't text"
EMPTY_ANSWER = "an empty assistant turn"
BAD_CALLS = 'tool calls that aren\'t a list of {"function": {"name": ..., "arguments": {...}}}'
BAD_ARGUMENTS = "tool calls whose arguments aren't a JSON object"
BAD_WEIGHT = "an assistant turn whose weight is neither 0 nor 1"
BAD_TOOLS = "tools that aren't a list of objects"


def check_messages(messages: Any) -> list[Message]:
    """The messages in the shape that chat templates take: role and text, tool calls with arguments as objects."""
    if not isinstance(messages, list | tuple):
        raise ChatFaultError(NO_LIST, f"{type(messages).__name__}: {str(messages)[:60]}")
    if not messages:
        raise ChatFaultError(NO_MESSAGES)
    return [_check_message(message, f"message {number}") for number, message in enumerate(messages, 1)]


def _check_message(message: Any, where: str) -> Message:
    if not isinstance(message, Mapping):
        raise ChatFaultError(NO_LIST, f"{where}: {str(message)[:60]}")
    # A key without a value is no key: tables hold one for every key that any message has.
    checked = {key: value for key, value in message.items() if value is not None}
    if "role" not in checked and "from" in checked:
        checked = _translate_sharegpt(checked)
    role = checked.get("role")
    if role is None:
        raise ChatFaultError(NO_ROLE, where)
    if role not in ROLES:
        raise ChatFaultError(UNKNOWN_ROLE, f"{where}: {str(role)[:60]!r}")
    calls = checked.pop("tool_calls", None)
    if calls:
        checked["tool_calls"] = _check_calls(calls, where, role)
    checked["content"] = _read_text(checked.get("content", "" if calls else None), where)
    if role == "assistant" and not calls and not checked["content"].strip():
        raise ChatFaultError(EMPTY_ANSWER, where)
    if role == "assistant" and checked.get("weight", 1) not in (0, 1):
        raise ChatFaultError(BAD_WEIGHT, f"{where}: {str(checked['weight'])[:60]}")
    return checked


def is_learned(message: Message) -> bool:
    """Whether a checked message is an answer to learn; one with a weight of 0, as OpenAI's format has it, isn't, nor is
    one that says `"train": false`, as Axolotl's does."""
    return bool(message["role"] == "assistant" and message.get("weight", 1) and message.get("train", True) is not False)


def _translate_sharegpt(message: Message) -> Message:
    """The message with the names that chat templates know."""
    checked = {key: value for key, value in message.items() if key not in ("from", "value")}
    sender, value = message["from"], message.get("value")
    checked["role"] = SHAREGPT_ROLES.get(sender, sender) if isinstance(sender, str) else sender
    if sender != "function_call":
        return checked if value is None else checked | {"content": value}
    calls = _parse_json(value, BAD_CALLS) if isinstance(value, str) else value
    calls = calls if isinstance(calls, list) else [calls]
    return checked | {"tool_calls": [{"type": "function", "function": call} for call in calls]}


def _read_text(content: Any, where: str) -> str:
    if content is None:
        raise ChatFaultError(NO_CONTENT, where)
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text") or "") for part in content)
    if not isinstance(content, str):
        raise ChatFaultError(NOT_TEXT, f"{where}: {str(content)[:60]}")
    return content


def _check_calls(calls: Any, where: str, role: Any) -> list[dict[str, Any]]:
    """The calls with their arguments as objects."""
    if not isinstance(calls, list) or role != "assistant":
        raise ChatFaultError(BAD_CALLS, f"{where}, {role}: {str(calls)[:60]}")
    checked = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or "arguments" not in function:
            raise ChatFaultError(BAD_CALLS, f"{where}: {str(call)[:60]}")
        arguments = function["arguments"]
        if isinstance(arguments, str):
            arguments = _parse_json(arguments, BAD_ARGUMENTS)
        if not isinstance(arguments, dict):
            raise ChatFaultError(BAD_ARGUMENTS, f"{where}: {str(function['arguments'])[:60]}")
        checked.append({**call, "function": {**function, "arguments": arguments}})
    return checked


def check_tools(tools: Any) -> list[Any] | None:
    """The tools as a list, None for none. Tables often hold them as one JSON string."""
    if isinstance(tools, str):
        tools = _parse_json(tools, BAD_TOOLS) if tools.strip() else None
    if not tools:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ChatFaultError(BAD_TOOLS, str(tools)[:60])
    return tools


def _parse_json(text: str, reason: str) -> Any:
    try:
        return STRICT_DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise ChatFaultError(reason, f"{text[:60]!r}: {fault_of(error)}") from None
