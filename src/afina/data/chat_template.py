"""The model's own chat template at work: which one it is, what it writes, and which tokens are the assistant's.

Decisions:

- A turn is found by rendering the conversation up to it, never by searching for markers in the text: what a user
  typed can't be mistaken for the template's own words.
- What training sees is what inference will see, and that is proven for every trained turn: the tokens of its
  prompt (the messages before it, with the generation prompt) and those of the conversation up to its last token
  are a prefix of the tokens of the whole. Templates that write an earlier turn differently once others follow
  fail here.
- A turn ends with the last special token that the template puts after an answer in the middle of a conversation,
  so that what closes a whole conversation (Phi-3's <|endoftext|>) isn't taken for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from afina.config.reason import Reason
from afina.data.template_arguments import set_arguments
from afina.data.template_limits import TemplateLimitError, limit_templates
from afina.errors import ModelError, describe_cause

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, Any]

SETTING = "model.chat_template"
REMEDY = "--chat-template chatml, or --chat-template PATH of a Jinja file"
OPEN, CLOSE = "<|im_start|>", "<|im_end|>"
CHATML = (files("afina.data") / "chatml.jinja").read_text(encoding="utf-8")
# For a vocabulary without those tokens: an answer must end with one token that generation can stop at.
CHATML_IN_WORDS = CHATML.replace("set answer_end = '<|im_end|>'", "set answer_end = eos_token")
PROBE: list[Message] = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
    {"role": "assistant", "content": "d"},
]
DIFFERENCE_CHARACTERS = 40

REFUSED = "messages that the chat template refuses"
OPENING = "an assistant's turn that opens the conversation"
REWRITTEN = "earlier turns that the chat template rewrites once others follow"
OTHER_PROMPT = "an answer that doesn't follow the template's own prompt"
MERGED = "an answer whose first or last characters merge with the tokens around it"
LOST_ANSWER = "an answer that the chat template leaves out or changes"


class ChatFaultError(ValueError):
    """A row that can't be taken. Its text reads well after "rows with "; `detail` tells what this row holds."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Turn:
    """One assistant's turn among the tokens of a conversation."""

    start: int
    """First token after the prompt."""
    stop: int
    """Just after the last token that is to be learned."""
    has_end: bool
    """Whether that last token is one that ends a turn."""
    prompt: str
    """What the template wrote before the turn."""
    text: str
    """What the template wrote for it."""


@dataclass(slots=True)
class TokenKinds:
    """What is known of a tokenizer and its template, looked up once."""

    key: tuple[Any, ...]
    special: frozenset[int]
    pattern: re.Pattern[str]
    """Finds the special tokens in a text."""
    blank: dict[int, bool] = field(default_factory=dict)
    """Token -> whether it is white space, filled while tokens are met."""
    turn_ends: frozenset[int] = frozenset()
    """What the template puts after an answer."""
    end_texts: tuple[str, ...] | None = None
    """What ends a turn as text; None until somebody asks."""
    learns_header: bool = False
    """Whether the template has no generation prompt, so that the special token which opens an answer is learned."""


_KINDS: WeakKeyDictionary[Any, TokenKinds] = WeakKeyDictionary()


def choose_template(tokenizer: PreTrainedTokenizerBase, wanted: str, /, **arguments: Any) -> Reason:
    """The template that was chosen, now set in the tokenizer, and why.

    Args:
        tokenizer: of the model.
        wanted: "auto" for the tokenizer's own, "chatml", or the path of a Jinja file.
        arguments: of the template, see `set_arguments`.
    """
    reason = _set_template(tokenizer, wanted)
    if not arguments:
        return reason
    set_arguments(tokenizer, arguments)
    given = ", ".join(f"{name}={value}" for name, value in arguments.items())
    return Reason(reason.setting, reason.value, f"{reason.reason}; with {given}")


def _set_template(tokenizer: PreTrainedTokenizerBase, wanted: str) -> Reason:
    """Set the template, and say why it is this one."""
    if wanted == "auto":
        if not tokenizer.chat_template:
            raise ModelError("the model's tokenizer brings no chat template", remedy=REMEDY)
        if isinstance(tokenizer.chat_template, dict) and "default" not in tokenizer.chat_template:
            names = ", ".join(sorted(tokenizer.chat_template))
            raise ModelError("the model's tokenizer brings no chat template 'default'", found=names, remedy=REMEDY)
        check_template(tokenizer, None, "the chat template of the model's tokenizer")
        return Reason(SETTING, "own", "the model's tokenizer brings it" + _warn(tokenizer))
    if wanted == "chatml":
        return _set_chatml(tokenizer)
    try:
        text = Path(wanted).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the chat template {wanted!r} can't be read", found=describe_cause(error), remedy=REMEDY
        ) from None
    if not text.strip():
        raise ModelError(f"the chat template {wanted!r} is empty", remedy=REMEDY)
    check_template(tokenizer, text, f"the chat template {wanted!r}")
    tokenizer.chat_template = text
    return Reason(SETTING, wanted, "the file that was named" + _warn(tokenizer))


def check_template(tokenizer: PreTrainedTokenizerBase, text: str | None, name: str) -> None:
    """Raise ModelError if the template isn't Jinja, or costs too much. One that refuses the probe may still take other
    messages.
    """
    from jinja2 import TemplateSyntaxError

    limit_templates()
    try:
        tokenizer.apply_chat_template(PROBE, chat_template=text, tokenize=False)
    except TemplateSyntaxError as error:
        found = f"{error.message} in line {error.lineno}"
        raise ModelError(f"{name} can't be parsed", found=found, expected="Jinja", remedy=REMEDY) from None
    except TemplateLimitError as error:
        raise describe_costs(error) from None
    except Exception:  # a template may raise anything at messages it wasn't written for
        return


def _warn(tokenizer: PreTrainedTokenizerBase) -> str:
    """What is odd about the template that was set: it makes rows that depend on the day, or that lack a start."""
    odd = "; it writes the day's date" if "strftime_now" in tokenizer.get_chat_template() else ""
    try:
        (ids,) = tokenize(tokenizer, [render(tokenizer, PROBE, None)])
    except ChatFaultError:
        return odd
    if adds_start(tokenizer) and tokenizer.bos_token_id not in ids:
        odd += f"; it doesn't write {tokenizer.bos_token}, which the tokenizer puts before other texts"
    return odd


def adds_start(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer itself puts a start token before a text."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id


def _set_chatml(tokenizer: PreTrainedTokenizerBase) -> Reason:
    start = "{{ bos_token }}" if adds_start(tokenizer) else ""
    if {OPEN, CLOSE} <= tokenizer.get_added_vocab().keys():
        tokenizer.chat_template = start + CHATML
        return Reason(SETTING, "chatml", f"asked for; {CLOSE} ends each turn")
    if tokenizer.eos_token is None:
        raise ModelError(f"ChatML needs the tokens {OPEN} and {CLOSE}, or an end token", found="none in the tokenizer")
    tokenizer.chat_template = start + CHATML_IN_WORDS
    words = f"asked for; {OPEN} and {CLOSE} are no tokens of this model and stay ordinary text"
    return Reason(SETTING, "chatml", f"{words}, {tokenizer.eos_token} ends each of the assistant's turns")


def find_special_strings(text: str, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The special tokens that stand in a text as if the template had written them, each once, in their order."""
    return list(dict.fromkeys(look_up(tokenizer).pattern.findall(text)))


def describe_turn_ends(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens at which generation has to stop: what the template puts after an answer, then the end token."""
    ends = [*look_up(tokenizer).turn_ends, tokenizer.eos_token_id]
    return tuple(dict.fromkeys(end for end in ends if end is not None))


def spell_turn_ends(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The same tokens as text."""
    kinds = look_up(tokenizer)
    if kinds.end_texts is None:
        kinds.end_texts = tuple(str(tokenizer.decode([end])) for end in describe_turn_ends(tokenizer))
    return kinds.end_texts


def locate_turns(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], tools: list[Any] | None, wanted: Sequence[int]
) -> tuple[str, list[int], dict[int, Turn]]:
    """The conversation as text and as tokens, and the proven turn of each message in `wanted`."""
    whole = render(tokenizer, messages, tools)
    texts = {i: render(tokenizer, messages[:i], tools, add_generation_prompt=True) for i in wanted}
    # The text up to and with a turn; after the last message that is the whole.
    upto = {i: whole if i + 1 == len(messages) else render(tokenizer, messages[: i + 1], tools) for i in wanted}
    distinct = list(dict.fromkeys([whole, *texts.values(), *upto.values()]))
    ids_of = dict(zip(distinct, tokenize(tokenizer, distinct), strict=True))
    if [*texts] == [len(messages) - 1]:
        (prompt,) = texts.values()
        ids_of[whole] = tokenize_apart(tokenizer, prompt, whole, ids_of)
    kinds, turns = look_up(tokenizer), {}
    for i in reversed(wanted):  # the last one first: where it doesn't follow its prompt, no turn can be learned
        start = len(ids_of[texts[i]])
        stop, has_end = find_stop(tokenizer, ids_of[upto[i]], start, kinds)
        for text, length in ((texts[i], start), (upto[i], stop)):
            if ids_of[whole][:length] != ids_of[text][:length]:
                raise explain_difference(whole, text, is_last=i + 1 == len(messages))
        if stop <= start:
            raise ChatFaultError(LOST_ANSWER, f"message {i + 1}")
        turns[i] = Turn(start, stop, has_end, texts[i], whole[len(texts[i]) : len(upto[i])])
    return whole, ids_of[whole], turns


def tokenize_apart(
    tokenizer: PreTrainedTokenizerBase, prompt: str, whole: str, ids_of: Mapping[str, list[int]]
) -> list[int]:
    """The tokens of a conversation that ends with an answer: those of its prompt, then those of the rest.

    Where the two would share a token, they are tokenised apart, for that is how generation goes on from a prompt. They
    aren't where a tokenizer writes the rest in another way for itself, such as with a space before it.
    """
    joint, start = ids_of[whole], ids_of[prompt]
    if joint[: len(start)] == start or not whole.startswith(prompt):
        return joint
    (rest,) = tokenize(tokenizer, [whole[len(prompt) :]])
    apart = [*start, *rest]
    return apart if decode(tokenizer, apart) == decode(tokenizer, joint) else joint


def decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text of tokens as they are."""
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def render(tokenizer: PreTrainedTokenizerBase, messages: list[Message], tools: list[Any] | None, **options: Any) -> str:
    """The text that the template writes.

    Raises:
        ChatFaultError: if the template refuses the messages.
        ModelError: if it costs too much; each further row could take as long.
    """
    limit_templates()
    try:
        return tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, **options)
    except TemplateLimitError as error:
        raise describe_costs(error) from None
    except Exception as error:  # a template may raise anything: its own refusals, types it can't add, names it lacks
        raise ChatFaultError(REFUSED, describe_cause(error, "the template")) from error


def describe_costs(error: Exception) -> ModelError:
    """The error for a template that is too costly."""
    return ModelError(
        "the chat template costs too much to render",
        found=str(error),
        expected="a text in a few milliseconds",
        remedy=f"{REMEDY}; where one row is millions of characters long, without it",
    )


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str], *, specials: bool = False) -> list[list[int]]:
    """The tokens of each text, by default without what the tokenizer itself puts around one: a template did that."""
    options = {"padding": False, "return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
    return tokenizer(texts, add_special_tokens=specials, **options)["input_ids"]


def find_stop(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], start: int, kinds: TokenKinds
) -> tuple[int, bool]:
    """Where the turn that opens at `start` and is the last in `ids` stops, and whether a special token ends it."""
    tail = len(ids)
    while tail > start and (ids[tail - 1] in kinds.special or is_blank(tokenizer, ids[tail - 1], kinds)):
        tail -= 1
    # The first of the template's own ends: generation stops there. Of other special tokens the last: a turn that
    # calls a tool may close the call with one, and itself with another.
    for ends, choose in ((kinds.turn_ends, min), (kinds.special, max)):
        found = [place for place in range(tail, len(ids)) if ids[place] in ends]
        if found:
            return choose(found) + 1, True
    return tail, False


def is_blank(tokenizer: PreTrainedTokenizerBase, token: int, kinds: TokenKinds) -> bool:
    """Whether a token is nothing but white space."""
    if token not in kinds.blank:
        kinds.blank[token] = not tokenizer.decode([token]).strip()
    return kinds.blank[token]


def explain_difference(whole: str, text: str, *, is_last: bool) -> ChatFaultError:
    """Why the tokens of `text` don't open those of the whole conversation."""
    if whole.startswith(text):
        return ChatFaultError(MERGED, f"around {text[-DIFFERENCE_CHARACTERS:]!r}")
    place = next((i for i, (a, b) in enumerate(zip(whole, text, strict=False)) if a != b), min(len(whole), len(text)))
    shown = slice(max(0, place - DIFFERENCE_CHARACTERS // 2), place + DIFFERENCE_CHARACTERS)
    alone, inside = text[shown], whole[shown]
    detail = f"{alone!r} up to this turn, {inside!r} in the whole conversation"
    return ChatFaultError(OTHER_PROMPT if is_last else REWRITTEN, detail)


def look_up(tokenizer: PreTrainedTokenizerBase) -> TokenKinds:
    """What is known of the tokenizer, looked up again when its tokens or its template have changed."""
    key = (len(tokenizer), tokenizer.eos_token_id, tokenizer.chat_template)
    known = _KINDS.get(tokenizer)
    if known is None or known.key != key:
        added = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        # The unknown token may stand for an answer's last character, unless it is the end token too (GPT-2).
        unknown = {tokenizer.unk_token_id} - {tokenizer.eos_token_id}
        special = frozenset({*added, *tokenizer.all_special_ids}) - unknown
        words = sorted({*added.values(), *tokenizer.all_special_tokens}, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, words)) or "(?!)")  # (?!) is found nowhere
        known = _KINDS[tokenizer] = TokenKinds(key, special, pattern)
        if tokenizer.chat_template:
            known.turn_ends = _probe_turn_ends(tokenizer, known)
            known.learns_header = _probe_header(tokenizer, known)
    return known


def _probe_header(tokenizer: PreTrainedTokenizerBase, kinds: TokenKinds) -> bool:
    """Whether generation is prompted by nothing, and an answer opens with a special token all the same."""
    try:
        asked, prompted = (render(tokenizer, PROBE[:1], None, add_generation_prompt=wanted) for wanted in (False, True))
        answered = render(tokenizer, PROBE[:2], None)
    except ChatFaultError:
        return False
    asked_ids, answered_ids = tokenize(tokenizer, [asked, answered])
    opening = answered_ids[len(asked_ids) : len(asked_ids) + 1]
    return asked == prompted and answered_ids[: len(asked_ids)] == asked_ids and not kinds.special.isdisjoint(opening)


def _probe_turn_ends(tokenizer: PreTrainedTokenizerBase, kinds: TokenKinds) -> frozenset[int]:
    """What ends an answer that others follow, or at least an answer; empty if the template refuses the probe."""
    try:
        prompt = render(tokenizer, PROBE[:1], None, add_generation_prompt=True)
        answered = render(tokenizer, PROBE[:2], None)
        followed = render(tokenizer, PROBE, None)
    except ChatFaultError:
        return frozenset()
    prompt_ids, ids, whole_ids = tokenize(tokenizer, [prompt, answered, followed])
    shared = next((i for i, (a, b) in enumerate(zip(ids, whole_ids, strict=False)) if a != b), len(ids))
    for candidate in (ids[:shared], ids):
        stop, has_end = find_stop(tokenizer, candidate, len(prompt_ids), kinds)
        if has_end:
            return frozenset({candidate[stop - 1]})
    return frozenset()
