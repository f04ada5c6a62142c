"""The messages of a conversation, and its tools, checked and in the shape that chat templates take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afina.data.chat_template import ChatFaultError, Message
from afina.data.json_formats import STRICT_DECODER, fault_of

ROLES = ("system", "developer", "user", "assistant", "tool")
# Names of speakers in data from other tools, and in Spanish, by the names that chat templates know.
SPEAKERS = {
    "human": "user", "usuario": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "model": "assistant", "asistente": "assistant", "sistema": "system", "observation": "tool",
    "function_response": "tool", "function": "tool",
} | {name: name for name in ROLES}  # fmt: skip
# ShareGPT's speaker of a tool call, and OpenAI's former key for one.
CALLER = "function_call"
# What says of a turn whether it is learned: 0 or false is only read. OpenAI's format has the one, Axolotl's the other.
LEARNING = ("weight", "train")

NO_LIST = "messages that aren't a list of objects"
NO_MESSAGES = "no messages"
NO_ROLE = "a message without a role"
UNKNOWN_ROLE = "a message of an unknown role"
NO_CONTENT = "a message without content"
NOT_TEXT = "a message whose content isn't text"
EMPTY_ANSWER = "an empty assistant turn"
BAD_CALLS = 'tool calls that aren\'t a list of {"function": {"name": ..., "arguments": {...}}}'
BAD_ARGUMENTS = "tool calls whose arguments aren't a JSON object"
BAD_WEIGHT = "an assistant turn whose weight or train is neither 0 nor 1"
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
    checked = {key: value for key, value in name_speaker(message).items() if value is not None}
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
    for key in LEARNING if role == "assistant" else ():
        if checked.get(key, 1) not in (0, 1):
            raise ChatFaultError(BAD_WEIGHT, f"{where}: {key} {str(checked[key])[:60]}")
    return checked


def is_learned(message: Message) -> bool:
    """Whether a checked message is an answer to learn, see `LEARNING`."""
    return message["role"] == "assistant" and all(message.get(key, 1) for key in LEARNING)


def name_speaker(message: Mapping[str, Any]) -> Message:
    """The message with the names that chat templates know: role, content and tool_calls, where ShareGPT has from and
    value. What it calls a function by becomes the assistant's tool call, as does OpenAI's former `function_call`.

    Raises:
        ChatFaultError: if that is no JSON.
    """
    others = {key: value for key, value in message.items() if key not in ("role", "from", "content", "value")}
    if others.get(CALLER) is not None and not others.get("tool_calls"):
        others["tool_calls"] = _read_calls(others.pop(CALLER))
    speaker, content = message.get("role") or message.get("from"), message.get("content")
    content = message.get("value") if content is None else content
    if isinstance(speaker, str):
        folded = speaker.strip().casefold()
        if folded == CALLER:
            return {**others, "role": "assistant", "content": "", "tool_calls": _read_calls(content)}
        speaker = SPEAKERS.get(folded, speaker)
    return {"role": speaker, "content": content, **others}


def _read_calls(written: Any) -> list[dict[str, Any]]:
    """The tool calls of a turn that holds nothing else."""
    calls = _parse_json(written, BAD_CALLS) if isinstance(written, str) else written
    return [{"type": "function", "function": call} for call in (calls if isinstance(calls, list) else [calls])]


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
