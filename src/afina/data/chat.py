"""One conversation, one prompt with its completion, or one plain text as tokens, with a mask of those to train.

Decisions:

- The assistant's turns are trained, each with the token that ends it and without the white space after that; those
  with a weight of 0 are only read. Nothing is read off padding: where pad and end are one token, the end is trained
  all the same.
- A row whose turns can't be proven (see `chat_template.py`) is refused, never trained in part and unnoticed.
- A conversation whose earlier turns the template rewrites becomes one row for each answer, with what comes before it:
  that is what generation sees. Each of them is proven like any other.
- Where the first characters of an answer would share a token with the template's prompt (a prompt that ends in a space,
  an answer that begins with a line's end), the two are tokenised apart, as they are when a model answers; so are
  a prompt and its completion without a template.
- What a row holds and the template doesn't write is said: an answer or a tool call refuses the row, anything else
  is a note.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from afina.data.chat_messages import check_messages, check_tools, is_learned
from afina.data.chat_template import (
    LOST_ANSWER,
    MERGED,
    OPENING,
    REWRITTEN,
    ChatFaultError,
    Message,
    Turn,
    decode,
    locate_turns,
    look_up,
    tokenize,
)
from afina.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "ChatFaultError", "TrainedTokens", "check_messages", "encode_completion", "encode_conversation", "encode_messages",
    "encode_plain", "tokenize_open",
]  # fmt: skip

REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
# A prompt may already hold the first characters of an answer, such as <think>.
OPENING_CHARACTERS = 40
GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")

NO_ANSWER = "no assistant turn"
NO_WEIGHT = "no assistant turn that is to be learned"
NO_COMPLETION = "no assistant turn in the completion"
LOST_CALLS = "tool calls that the chat template leaves out"
UNMARKED = "no answer inside the chat template's {% generation %} marks"
EMPTY_COMPLETION = "an empty completion"
EMPTY_TEXT = "an empty text"

OPENING_READ = "the assistant's turn that opens the conversation is only read: nothing prompts it"
LAST_IS_OTHER = "the last turn isn't the assistant's"
NO_END = "the chat template puts no token after an answer that would end it"
END_UNMARKED = "the chat template's {% generation %} marks leave out an answer or its end"
NO_PROMPT = "the chat template has no generation prompt, so the header of an answer is learned too"
TWO_STARTS = "the chat template writes the start token twice"
LOST_MESSAGE = "the chat template leaves out a message, or changes it"
LOST_TOOLS = "the chat template leaves out the tools"
LOST_TEXT = "the chat template leaves out the text beside tool calls"
LOST_REASONING = "the chat template leaves out reasoning"
PROMPT_MERGES = (
    "the prompt's last token merges with the completion, and won't when the model answers: a space at a prompt's end"
    " belongs to the completion"
)


@dataclass(frozen=True, slots=True)
class TrainedTokens:
    """The tokens of one row, and which of them are learned."""

    ids: list[int]
    loss_mask: list[int]
    """1 for a token that is learned, 0 for one that is only read."""
    end_tokens: int
    """Tokens that end a turn and are learned."""
    turns: int
    """Turns that are learned."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Marked:
    """The tokens of a conversation, and 1 for each that the template marks as generated."""

    ids: list[int]
    marks: list[int]


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Any, tools: Any = None, *, prompt_messages: int = 0
) -> list[TrainedTokens]:
    """The conversation as one row or, where the template rewrites earlier turns, one row for each answer.

    Args: as for `encode_messages`.
    """
    try:
        return [encode_messages(tokenizer, messages, tools, prompt_messages=prompt_messages)]
    except ChatFaultError as fault:
        if str(fault) not in (REWRITTEN, MERGED):
            raise
    checked = check_messages(messages)
    ends = [i + 1 for i, message in enumerate(checked) if i and is_learned(message) and i >= prompt_messages]
    rows = [
        encode_messages(tokenizer, messages[:end], tools, prompt_messages=prompt_messages, last_turn_only=True)
        for end in ends
    ]
    if checked[-1]["role"] != "assistant":
        rows[-1] = replace(rows[-1], notes=(*rows[-1].notes, LAST_IS_OTHER))
    return rows


def encode_messages(
    tokenizer: PreTrainedTokenizerBase, messages: Any, tools: Any = None, *, prompt_messages: int = 0,
    last_turn_only: bool = False,
) -> TrainedTokens:  # fmt: skip
    """The tokens of a conversation as the tokenizer's chat template writes it, the assistant's turns trained.

    Args:
        tokenizer: with a chat template.
        messages: role and content, or from and value (ShareGPT); checked here.
        tools: JSON schemas of the functions that the assistant may call, for the template.
        prompt_messages: how many of the messages are a prompt, whose answers are only read.
        last_turn_only: train the assistant's last turn alone, which also templates allow that rewrite earlier ones.
    """
    checked, tools = check_messages(messages), check_tools(tools)
    answers = [i for i, message in enumerate(checked) if message["role"] == "assistant" and i >= prompt_messages]
    if not answers:
        roles = ", ".join(message["role"] for message in checked[prompt_messages:])
        raise ChatFaultError(NO_COMPLETION if prompt_messages else NO_ANSWER, f"roles: {roles}")
    wanted = [i for i in (answers[-1:] if last_turn_only else answers) if is_learned(checked[i])]
    if not wanted:
        raise ChatFaultError(NO_WEIGHT)
    if wanted == [0]:
        raise ChatFaultError(OPENING, "the first message is the assistant's, so nothing prompts it")
    is_opening, wanted = wanted[0] == 0, [i for i in wanted if i]
    whole, ids, turns = locate_turns(tokenizer, checked, tools, wanted)
    marks = _read_marks(tokenizer, checked, tools)
    if marks and marks.ids != ids:  # its last answer was tokenised apart
        marks = _carry_over(tokenizer, marks, whole, turns[max(turns)].prompt)
        if marks.ids != ids:
            raise ChatFaultError(MERGED)
    mask = _build_mask(ids, turns.values(), marks.marks if marks else ())
    trained = [turn for turn in turns.values() if any(mask[turn.start : turn.stop])]
    if not trained:
        raise ChatFaultError(UNMARKED)
    ends = sum(mask[turn.stop - 1] for turn in trained if turn.has_end)
    notes = [OPENING_READ] if is_opening else []
    notes += _find_lost_parts(whole, checked, tools)
    for i in wanted:
        notes.extend(_check_answer(checked[i], turns[i], f"message {i + 1}"))
    if checked[-1]["role"] != "assistant":
        notes.append(LAST_IS_OTHER)
    if ends < len(turns):
        notes.append(END_UNMARKED if all(turn.has_end for turn in turns.values()) else NO_END)
    if look_up(tokenizer).learns_header:
        notes.append(NO_PROMPT)
    if tokenizer.bos_token_id is not None and ids[:2] == [tokenizer.bos_token_id] * 2:
        notes.append(TWO_STARTS)
    return TrainedTokens(ids, mask, ends, len(trained), tuple(dict.fromkeys(notes)))


def _read_marks(tokenizer: PreTrainedTokenizerBase, messages: list[Message], tools: list[Any] | None) -> Marked | None:
    """What stands inside the template's {% generation %} marks; None where it has none."""
    if not tokenizer.is_fast or not GENERATION_MARK.search(tokenizer.get_chat_template(tools=tools)):
        return None
    encoded = tokenizer.apply_chat_template(messages, tools=tools, return_dict=True, return_assistant_tokens_mask=True)
    return Marked(encoded["input_ids"], encoded["assistant_masks"])


def _carry_over(tokenizer: PreTrainedTokenizerBase, marked: Marked, whole: str, prompt: str) -> Marked:
    """The marks of a conversation for its prompt and its last answer tokenised apart: tokens with a marked character.

    Args:
        whole: the conversation as text, which begins with `prompt`.
    """
    ids, places = _locate_tokens(tokenizer, whole)
    if ids != marked.ids:
        return marked
    characters = bytearray(len(whole))
    for (start, stop), mark in zip(places, marked.marks, strict=True):
        if mark:
            characters[start:stop] = b"\1" * (stop - start)
    ids, places = _locate_tokens(tokenizer, prompt)
    answer_ids, answer_places = _locate_tokens(tokenizer, whole[len(prompt) :])
    places += [(start + len(prompt), stop + len(prompt)) for start, stop in answer_places]
    return Marked([*ids, *answer_ids], [int(any(characters[start:stop])) for start, stop in places])


def _locate_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """The tokens of a text, and where in it each begins and ends."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(encoded["input_ids"]), list(encoded["offset_mapping"])


def _build_mask(ids: list[int], turns: Iterable[Turn], marks: Sequence[int]) -> list[int]:
    """1 for each token of a turn that is marked, and for the one that ends it and directly follows.

    Marks can't reach beyond a turn: they may include the white space after it, and transformers stretches one that
    ends in characters without a token up to the end of the conversation.
    """
    mask = [0] * len(ids)
    for turn in turns:
        places = [place for place in range(turn.start, turn.stop) if not marks or marks[place]]
        if turn.has_end and places and places[-1] == turn.stop - 2:
            places.append(turn.stop - 1)
        for place in places:
            mask[place] = 1
    return mask


def _check_answer(message: Message, turn: Turn, where: str) -> Iterator[str]:
    """Notes on what the template didn't write of an answer. White space may differ: templates strip it."""
    written, content = _squeeze(turn.text), _squeeze(message["content"])
    prompt = _squeeze(turn.prompt[-OPENING_CHARACTERS:])
    opened = max((n for n in range(len(prompt) + 1) if content.startswith(prompt[len(prompt) - n :])), default=0)
    calls = message.get("tool_calls", [])
    for call in calls:
        if _squeeze(call["function"]["name"]) not in written:
            raise ChatFaultError(LOST_CALLS, f"{where}, {call['function']['name']!r}")
    if content[opened:] not in written:
        if not calls:
            raise ChatFaultError(LOST_ANSWER, where)
        yield LOST_TEXT
    reasoning = next((message[key] for key in REASONING_KEYS if isinstance(message.get(key), str)), "")
    if _squeeze(reasoning) not in written:
        yield LOST_REASONING


def _find_lost_parts(whole: str, messages: list[Message], tools: list[Any] | None) -> Iterator[str]:
    """Notes on what the template didn't write of the messages that aren't the assistant's, and of the tools."""
    whole = _squeeze(whole)
    for message in messages:
        content = message["content"]
        # Some templates write what a tool returned as a JSON string.
        forms = (content, json.dumps(content, ensure_ascii=False)[1:-1])
        if message["role"] != "assistant" and not any(_squeeze(form) in whole for form in forms):
            yield LOST_MESSAGE
    for tool in tools or []:
        name = tool.get("function", tool)
        name = name.get("name") if isinstance(name, dict) else None
        if isinstance(name, str) and _squeeze(name) not in whole:
            yield LOST_TOOLS


def _squeeze(text: str) -> str:
    return "".join(text.split())


def encode_completion(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> TrainedTokens:
    """The tokens of a prompt and its completion as one text, without a template; the completion is trained.

    Where the two would share a token, they are tokenised apart, for that is how generation goes on from a prompt. Where
    a tokenizer writes the completion in another way for itself, such as with a space before it, the shared token is
    learned, and that is noted.
    """
    if not completion.strip():
        raise ChatFaultError(EMPTY_COMPLETION)
    prompt_ids, ids = tokenize_open(tokenizer, prompt), tokenize_ended(tokenizer, prompt + completion)
    if ids[: len(prompt_ids)] != prompt_ids:
        (rest,) = tokenize(tokenizer, [completion])
        apart = [*prompt_ids, *end_once(tokenizer, rest)]
        ids = apart if decode(tokenizer, apart) == decode(tokenizer, ids) else ids
    shared = next((i for i, (a, b) in enumerate(zip(prompt_ids, ids, strict=False)) if a != b), len(prompt_ids))
    notes = (PROMPT_MERGES,) if shared < len(prompt_ids) else ()
    return TrainedTokens(ids, [int(place >= shared) for place in range(len(ids))], 1, 1, notes)


def encode_plain(tokenizer: PreTrainedTokenizerBase, text: str) -> TrainedTokens:
    """The tokens of a plain text, all trained but the start token, with the end token after them."""
    if not text.strip():
        raise ChatFaultError(EMPTY_TEXT)
    ids = tokenize_ended(tokenizer, text)
    return TrainedTokens(ids, [int(ids[0] != tokenizer.bos_token_id), *[1] * (len(ids) - 1)], 1, 1)


def tokenize_ended(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a text as `tokenize_open` has them, and the end token after them, once.

    A text that was written out for training brings it, and often a line's end after it.
    """
    ends = tokenizer.eos_token is not None and text.rstrip().endswith(tokenizer.eos_token)
    return end_once(tokenizer, tokenize_open(tokenizer, text.rstrip() if ends else text))


def end_once(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    """The tokens with one end token after them, whatever they end with."""
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    while ids and ids[-1] == end and ids != [start]:
        ids.pop()
    return [*ids, end]


def tokenize_open(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a text with the tokenizer's own start token, once, and without an end token that isn't the text's.

    Tokenizers differ in whether they add either, and a text may bring them itself: a prompt whose turns are parted by
    end tokens ends with one.
    """
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    if end is None:
        raise ModelError(
            "the model's tokenizer has no end token", expected="an eos token: a text's end is learned by it",
            remedy='"eos_token" in a copy of the model\'s tokenizer_config.json, or --model with another one',
        )  # fmt: skip
    (ids,) = tokenize(tokenizer, [text], specials=True)
    while start is not None and ids[:2] == [start, start]:
        del ids[0]
    if ids[-1:] == [end]:
        (own,) = tokenize(tokenizer, [text], specials=False)
        for _ in range(count_last(ids, end) - count_last(own, end)):
            if ids != [start]:
                ids.pop()
    return ids


def count_last(ids: Sequence[int], token: int) -> int:
    """How often a token stands at the end."""
    return next((place for place, each in enumerate(reversed(ids)) if each != token), len(ids))
