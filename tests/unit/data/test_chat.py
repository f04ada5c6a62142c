"""The tokens of a chat are the template's, and those that are learned are the assistant's words and their ends."""

from __future__ import annotations

import json
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.data import chat, chat_template
from afina.data.chat import (
    ChatFaultError,
    TrainedTokens,
    check_messages,
    encode_completion,
    encode_conversation,
    encode_messages,
    encode_plain,
    tokenize_open,
)
from afina.data.chat_messages import BAD_CALLS, BAD_WEIGHT
from afina.data.chat_template import choose_template, describe_turn_ends, find_special_strings
from afina.errors import ModelError
from afina.testing import tokenizers as byte_level
from afina.testing.templates import CHAT_FAMILIES, build_chat_tokenizer
from afina.testing.tokenizers import build_tokenizer

# What a family writes for an answer, up to the token that ends it.
TURNS = {
    "qwen2.5": "{}<|im_end|>",
    "qwen3": "<think>\n\n</think>\n\n{}<|im_end|>",
    "smollm2": "{}<|im_end|>",
    "llama-3": "{}<|eot_id|>",
    "llama-2": " {} </s>",
    "mistral": " {}</s>",
    "gemma": "{}<end_of_turn>",
    "phi-3": "{}<|end|>",
    "zephyr": "{}</s>",
    "deepseek": "{}<｜end▁of▁sentence｜>",
    "gpt-oss": "<|channel|>final<|message|>{}<|return|>",
    "marked": "{}<|im_end|>",
    "marked-widely": "{}<|im_end|>",
}
CALLS = {
    "qwen2.5": '<tool_call>\n{"name": "get_time", "arguments": {"city": "Lima"}}\n</tool_call><|im_end|>',
    "qwen3": '<think>\nI look.\n</think>\n\n<tool_call>\n{"name": "get_time", "arguments": {"city": "Lima"}}\n'
    "</tool_call><|im_end|>",
    "llama-3": '{"name": "get_time", "parameters": {"city": "Lima"}}<|eot_id|>',
    "mistral": '[TOOL_CALLS] [{"name": "get_time", "arguments": {"city": "Lima"}}]</s>',
}
WITHOUT_SYSTEM = {"gemma", "mistral"}
REWRITERS = {"gpt-oss", "qwen3"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "get_time", "description": "The time.", "parameters": PARAMETERS}}]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def call(arguments: Any, **more: Any) -> dict[str, Any]:
    function = {"name": "get_time", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}], **more}


ONE = [user("What is it?"), answer("A kettle, wörld.")]
THREE = [user("a?"), answer("one"), user("b?"), answer("two"), user("c?"), answer("three")]
SYSTEM = [{"role": "system", "content": "Be kind."}, *THREE]
CALLED = [
    user("What time is it?"),
    call('{"city": "Lima"}'),
    {"role": "tool", "content": '{"t": "5"}'},
    answer("Five."),
]
CASES = [
    *((family, ONE) for family in TURNS),
    *((family, THREE) for family in TURNS if family not in REWRITERS),
    *((family, SYSTEM) for family in TURNS if family not in WITHOUT_SYSTEM | REWRITERS),
]


@cache
def find_tokenizer(family: str) -> Any:
    """Don't change it."""
    return build_chat_tokenizer(family)


def read_learned(tokenizer: Any, row: TrainedTokens) -> list[str]:
    """The texts of the stretches that are learned."""
    marked = zip(row.ids, row.loss_mask, strict=True)
    return [tokenizer.decode([i for i, _ in run]) for learned, run in groupby(marked, lambda pair: pair[1]) if learned]


def check_inference(tokenizer: Any, row: TrainedTokens, messages: list[Any], tools: Any = None) -> None:
    """What inference sees before each answer opens the row, and learning starts right after it."""
    assert row.ids == tokenizer.apply_chat_template(messages, tools=tools)["input_ids"]
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            prompt = tokenizer.apply_chat_template(messages[:i], tools=tools, add_generation_prompt=True)["input_ids"]
            assert row.ids[: len(prompt)] == prompt
            assert (row.loss_mask[len(prompt) - 1], row.loss_mask[len(prompt)]) == (0, 1)


def catch(tokenizer: Any, messages: Any, tools: Any = None, **options: Any) -> ChatFaultError:
    with pytest.raises(ChatFaultError) as caught:
        encode_messages(tokenizer, messages, tools, **options)
    return caught.value


def test_every_family_is_here() -> None:
    assert TURNS.keys() == CHAT_FAMILIES.keys()


@pytest.mark.parametrize(("family", "messages"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_answers_and_their_ends_are_learned(family: str, messages: list[Any]) -> None:
    tokenizer = find_tokenizer(family)
    row = encode_messages(tokenizer, messages)
    texts = [message["content"] for message in messages if message["role"] == "assistant"]
    assert read_learned(tokenizer, row) == [TURNS[family].format(text) for text in texts]
    assert (row.turns, row.end_tokens, row.notes) == (len(texts), len(texts), ())
    check_inference(tokenizer, row, messages)


@pytest.mark.parametrize("family", TURNS)
def test_one_start_token(family: str) -> None:
    tokenizer = find_tokenizer(family)
    row = encode_messages(tokenizer, ONE)
    # The template of Zephyr writes none, and generation from it sees none.
    if tokenizer.bos_token is None or family == "zephyr":
        assert tokenizer.bos_token_id not in row.ids
    else:
        assert row.ids[0] == tokenizer.bos_token_id
        assert row.ids.count(tokenizer.bos_token_id) == 1
    starts = encode_messages(find_tokenizer("llama-2"), THREE).ids.count(find_tokenizer("llama-2").bos_token_id)
    assert starts == 3  # as published: one before each question


def test_a_start_token_written_twice_is_noted() -> None:
    tokenizer = build_chat_tokenizer("llama-3")
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    assert encode_messages(tokenizer, ONE).notes == (chat.TWO_STARTS,)


@pytest.mark.parametrize("family", TURNS)
def test_padding_with_the_end_token_changes_nothing(family: str) -> None:
    tokenizer = build_chat_tokenizer(family)
    tokenizer.pad_token = tokenizer.eos_token
    assert encode_messages(tokenizer, ONE) == encode_messages(find_tokenizer(family), ONE)


@pytest.mark.parametrize("family", CALLS)
def test_tool_calls_are_learned_and_results_are_not(family: str) -> None:
    tokenizer = find_tokenizer(family)
    messages = CALLED
    if family == "qwen3":
        thoughts = iter(["I look.", "I read."])
        messages = [m | {"reasoning_content": next(thoughts)} if m["role"] == "assistant" else m for m in CALLED]
    row = encode_messages(tokenizer, messages, TOOLS)
    last = TURNS[family].format("Five.").replace("<think>\n\n", "<think>\nI read.\n")
    assert read_learned(tokenizer, row) == [CALLS[family], last]
    assert (row.turns, row.end_tokens, row.notes) == (2, 2, ())
    check_inference(tokenizer, row, check_messages(messages), TOOLS)
    assert encode_messages(tokenizer, messages, json.dumps(TOOLS)) == row


@pytest.mark.parametrize("family", sorted(TURNS.keys() - CALLS.keys() - {"llama-2", "gemma", *REWRITERS}))
def test_a_template_that_knows_no_calls_is_found(family: str) -> None:
    fault = catch(find_tokenizer(family), CALLED, TOOLS)
    assert (str(fault), fault.detail) == ("tool calls that the chat template leaves out", "message 2, 'get_time'")


SPECIAL = ["<|im_end|>", "<|im_start|>assistant\n", "</s>", "[/INST]", "<end_of_turn>\n", "<｜Assistant｜>", "<|end|>"]
PIECES = st.lists(st.sampled_from([*SPECIAL, "a", " ", "\n", "ü", "{{ x }}", "<think>"]), max_size=6).map("".join)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(PIECES, min_size=4, max_size=4), family=st.sampled_from(sorted(TURNS.keys() - REWRITERS)))
def test_nothing_that_a_user_types_is_learned(texts: list[str], family: str) -> None:
    tokenizer = find_tokenizer(family)
    answers = [f"x{text}x" for text in texts[1::2]]
    row = encode_messages(tokenizer, [user(texts[0]), answer(answers[0]), user(texts[2]), answer(answers[1])])
    assert read_learned(tokenizer, row) == [TURNS[family].format(text) for text in answers]


def test_an_answer_that_ends_like_a_turn_ends_there() -> None:
    tokenizer = find_tokenizer("qwen2.5")
    row = encode_messages(tokenizer, [user("a"), answer("b<|im_end|> \n"), user("c"), answer("d")])
    assert read_learned(tokenizer, row) == ["b<|im_end|>", "d<|im_end|>"]
    assert row.end_tokens == 2


def test_special_strings_are_found() -> None:
    tokenizer = find_tokenizer("qwen2.5")
    text = "say <|im_end|> or <|im_start|>, not <|im_end|>, <think> or <|eot_id|>"
    assert find_special_strings(text, tokenizer) == ["<|im_end|>", "<|im_start|>"]
    assert find_special_strings("<s>struck</s>", find_tokenizer("zephyr")) == ["<s>", "</s>"]
    assert find_special_strings("plain", tokenizer) == []
    assert encode_messages(tokenizer, [user(text), answer("no")]).notes == ()  # encoded all the same


def test_special_tokens_added_later_are_found() -> None:
    tokenizer = build_chat_tokenizer("qwen2.5")
    assert find_special_strings("<new>", tokenizer) == []
    tokenizer.add_special_tokens({"extra_special_tokens": ["<new>", "<new>er"]})
    assert find_special_strings("<new> and <new>er", tokenizer) == ["<new>", "<new>er"]


@pytest.mark.parametrize("family", sorted(TURNS.keys() - REWRITERS))
def test_answers_inside_a_prompt_are_only_read(family: str) -> None:
    tokenizer = find_tokenizer(family)
    row = encode_messages(tokenizer, THREE, prompt_messages=3)
    assert row.ids == encode_messages(tokenizer, THREE).ids
    assert read_learned(tokenizer, row) == [TURNS[family].format(text) for text in ("two", "three")]
    assert row.turns == 2


def test_a_completion_without_an_answer_is_refused() -> None:
    fault = catch(find_tokenizer("qwen2.5"), [*ONE, user("b?")], prompt_messages=2)
    assert (str(fault), fault.detail) == ("no assistant turn in the completion", "roles: user")


# Templates that rewrite, leave out or merge


def test_rewritten_turns_are_refused_and_the_last_one_can_be_learned() -> None:
    tokenizer = find_tokenizer("qwen3")
    messages = [user("a"), answer("<think>\nhm\n</think>\n\none"), user("b"), answer("<think>\nso\n</think>\n\ntwo")]
    fault = catch(tokenizer, messages)
    assert str(fault) == "earlier turns that the chat template rewrites once others follow"
    assert "<think>\\nhm" in fault.detail
    row = encode_messages(tokenizer, messages, last_turn_only=True)
    assert read_learned(tokenizer, row) == ["<think>\nso\n</think>\n\ntwo<|im_end|>"]
    assert (row.turns, row.end_tokens, row.notes) == (1, 1, ())
    assert "hm" not in tokenizer.decode(row.ids)
    prompt = tokenizer.apply_chat_template(messages[:3], add_generation_prompt=True)["input_ids"]
    assert row.ids[: len(prompt)] == prompt
    assert row.loss_mask.index(1) == len(prompt)


@pytest.mark.parametrize("family", sorted(REWRITERS))
def test_rewritten_turns_become_rows_of_their_own(family: str) -> None:
    tokenizer = find_tokenizer(family)
    messages = [m | {"reasoning_content": "hm", "thinking": "hm"} if m["role"] == "assistant" else m for m in THREE]
    rows = encode_conversation(tokenizer, messages)
    assert len(rows) == 3
    for end, text, row in zip((2, 4, 6), ("one", "two", "three"), rows, strict=True):
        (learned,) = read_learned(tokenizer, row)
        assert ("hm" in learned, learned.endswith(TURNS[family][-12:].format(text))) == (True, True)
        assert row == encode_messages(tokenizer, messages[:end], last_turn_only=True)
        prompt = tokenizer.apply_chat_template(messages[: end - 1], add_generation_prompt=True)["input_ids"]
        assert (row.ids[: len(prompt)], row.loss_mask.index(1)) == (prompt, len(prompt))
    assert encode_conversation(tokenizer, messages, prompt_messages=3) == rows[1:]


def test_a_conversation_is_split_only_where_it_must_be() -> None:
    tokenizer = find_tokenizer("qwen2.5")
    assert encode_conversation(tokenizer, THREE) == [encode_messages(tokenizer, THREE)]


def test_a_split_conversation_that_ends_with_a_question_is_noted() -> None:
    rows = encode_conversation(find_tokenizer("gpt-oss"), [*THREE, user("d?")])
    assert [row.notes for row in rows] == [(), (), (chat.LAST_IS_OTHER,)]


def test_a_prompt_that_no_answer_follows_is_refused_though_turns_are_rewritten() -> None:
    tokenizer = build_chat_tokenizer("gpt-oss")
    tokenizer.chat_template += "{% if add_generation_prompt %}{{ '<|channel|>analysis' }}{% endif %}"
    with pytest.raises(ChatFaultError, match=chat_template.OTHER_PROMPT):
        encode_conversation(tokenizer, [*THREE, user("d?")])


def test_tools_that_move_to_the_last_question_are_refused() -> None:
    tokenizer = find_tokenizer("mistral")
    messages = [*CALLED, user("And now?"), answer("Six.")]
    assert str(catch(tokenizer, messages, TOOLS)) == chat_template.REWRITTEN
    assert read_learned(tokenizer, encode_messages(tokenizer, messages, TOOLS, last_turn_only=True)) == [" Six.</s>"]


def test_a_prompt_that_opens_thinking_by_itself_is_refused() -> None:
    tokenizer = build_chat_tokenizer("qwen2.5")
    tokenizer.chat_template += "{% if add_generation_prompt %}{{ '<think>\n' }}{% endif %}"
    fault = catch(tokenizer, ONE)
    assert str(fault) == "an answer that doesn't follow the template's own prompt"
    assert "assistant\\n<think>\\n" in fault.detail


def test_a_prompt_that_opens_thinking_is_the_reason_in_longer_conversations_too() -> None:
    tokenizer = build_chat_tokenizer("qwen2.5")
    tokenizer.chat_template += "{% if add_generation_prompt %}{{ '<think>\n' }}{% endif %}"
    assert str(catch(tokenizer, THREE)) == chat_template.OTHER_PROMPT
    assert str(catch(tokenizer, [*THREE, user("d?")])) == chat_template.REWRITTEN


def test_the_first_words_of_an_answer_may_stand_in_the_prompt() -> None:
    tokenizer = build_chat_tokenizer("qwen2.5")
    tokenizer.chat_template += "{% if add_generation_prompt %}{{ '<think>\n' }}{% endif %}"
    row = encode_messages(tokenizer, [user("a"), answer("<think>\nhm\n</think>\n\nb")])
    assert read_learned(tokenizer, row) == ["hm\n</think>\n\nb<|im_end|>"]
    assert (row.turns, row.end_tokens, row.notes) == (1, 1, ())


def test_what_closes_a_conversation_may_look_like_the_end_of_a_turn() -> None:
    tokenizer = build_chat_tokenizer("phi-3")
    tokenizer.eos_token = "<|end|>"
    row = encode_messages(tokenizer, THREE)
    assert tokenizer.decode(row.ids).endswith("three<|end|>\n<|end|>")
    assert read_learned(tokenizer, row) == ["one<|end|>", "two<|end|>", "three<|end|>"]


def test_an_end_only_behind_the_last_turn_is_refused() -> None:
    tokenizer = build_chat_tokenizer("zephyr")
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.role + ': ' + message.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% else %}{{ eos_token }}{% endif %}"
    )
    assert str(catch(tokenizer, THREE)) == chat_template.REWRITTEN
    assert read_learned(tokenizer, encode_messages(tokenizer, ONE)) == ["A kettle, wörld.\n</s>"]


def test_a_template_without_ends_is_noted() -> None:
    tokenizer = build_chat_tokenizer("zephyr")
    tokenizer.chat_template = tokenizer.chat_template.replace("eos_token", "'\n'")
    row = encode_messages(tokenizer, THREE)
    assert read_learned(tokenizer, row) == ["one", "two", "three"]
    assert (row.turns, row.end_tokens, row.notes) == (3, 0, (chat.NO_END,))
    row = encode_messages(
        tokenizer, [user("a"), answer("b<unk>")]
    )  # a character that the vocabulary lacks ends nothing
    assert read_learned(tokenizer, row) == ["b<unk>"]
    assert (row.end_tokens, row.notes) == (0, (chat.NO_END,))


def test_parts_that_the_template_leaves_out_are_noted() -> None:
    tokenizer = build_chat_tokenizer("deepseek")
    tool = {"role": "tool", "content": "5"}
    thinking = answer("five") | {"reasoning_content": "hm"}
    assert encode_messages(tokenizer, [user("a"), tool, tool, thinking], TOOLS).notes == (
        chat.LOST_MESSAGE, chat.LOST_TOOLS, chat.LOST_REASONING,
    )  # fmt: skip
    row = encode_messages(find_tokenizer("mistral"), [user("a"), call({}) | {"content": "I look."}], TOOLS)
    assert row.notes == (chat.LOST_TEXT,)


def test_an_answer_that_the_template_shortens_is_refused() -> None:
    tokenizer = build_chat_tokenizer("deepseek")
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "message.content + '<｜end", "message.content.split('</think>')[-1] + '<｜end"
    )
    assert str(catch(tokenizer, [user("a"), answer("<think>hm</think>b")])) == chat_template.LOST_ANSWER
    assert encode_messages(tokenizer, ONE).turns == 1


def test_an_answer_that_the_template_leaves_out_is_refused() -> None:
    tokenizer = build_chat_tokenizer("llama-2")
    tokenizer.chat_template = "{% for message in messages[::2] %}{{ '[INST] ' + message.content }}{% endfor %}"
    assert str(catch(tokenizer, THREE)) == "an answer that the chat template leaves out or changes"


def build_merging_tokenizer() -> Any:
    """The bytes of GPT-2, of which two line breaks are one token, and so are a space and a b, and b and x."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    letters = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ĊĊ", "Ġb"]
    model = BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[("Ċ", "Ċ"), ("Ġ", "b")])
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<|endoftext|>")


def test_an_answer_that_merges_with_its_prompt_is_tokenised_apart() -> None:
    """As generation writes it: after the tokens of the prompt alone."""
    tokenizer = build_merging_tokenizer()
    choose_template(tokenizer, "chatml")
    row = encode_messages(tokenizer, [user("a"), answer("\nb")])
    prompt = tokenizer.apply_chat_template([user("a")], tokenize=False, add_generation_prompt=True)
    prompt_ids = tokenizer(prompt)["input_ids"]
    assert row.ids[: len(prompt_ids)] == prompt_ids
    assert row.loss_mask == [0] * len(prompt_ids) + [1] * (len(row.ids) - len(prompt_ids) - 1) + [0]
    assert read_learned(tokenizer, row) == ["\nb<|endoftext|>"]
    assert tokenizer.decode(row.ids) == f"{prompt}\nb<|endoftext|>\n"


def test_answers_that_merge_become_a_row_each() -> None:
    tokenizer = build_merging_tokenizer()
    choose_template(tokenizer, "chatml")
    messages = [user("a"), answer("\nb"), user("c"), answer("d")]
    fault = catch(tokenizer, messages)
    assert str(fault) == "an answer whose first or last characters merge with the tokens around it"
    assert "assistant\\n" in fault.detail
    rows = encode_conversation(tokenizer, messages)
    assert [read_learned(tokenizer, row) for row in rows] == [["\nb<|endoftext|>"], ["d<|endoftext|>"]]


def test_a_template_whose_prompt_ends_in_a_space_is_learned() -> None:
    tokenizer = build_merging_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + (eos_token if m.role == 'assistant' else '') + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    row = encode_messages(tokenizer, [user("a"), answer("b")])  # of which the space and the b would be one token
    assert read_learned(tokenizer, row) == ["b<|endoftext|>"]


def test_what_a_tokenizer_writes_otherwise_alone_is_not_tokenised_apart() -> None:
    """One that puts a space before every text: the answer alone would read another way."""
    from tokenizers import pre_tokenizers

    tokenizer = build_merging_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    choose_template(tokenizer, "chatml")
    fault = catch(tokenizer, [user("a"), answer("\nb")])
    assert str(fault) == "an answer whose first or last characters merge with the tokens around it"


def test_marks_of_an_answer_that_is_tokenised_apart() -> None:
    tokenizer = build_merging_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + '\n' }}{% generation %}{{ m.content + eos_token }}{% endgeneration %}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'assistant\n' }}{% endif %}"
    )
    for content in ("b", "\nb", "\n\n"):
        row = encode_messages(tokenizer, [user("a"), answer(f"{content}c")])
        assert read_learned(tokenizer, row) == [f"{content}c<|endoftext|>"]
    rows = encode_conversation(tokenizer, [user("a"), answer("\nb"), user("c"), answer("\nd")])
    assert [read_learned(tokenizer, row) for row in rows] == [["\nb<|endoftext|>"], ["\nd<|endoftext|>"]]


def test_a_greeting_by_the_assistant_is_only_read() -> None:
    tokenizer = build_chat_tokenizer("qwen2.5")
    messages = [answer("welcome"), user("a"), answer("b")]
    row = encode_messages(tokenizer, messages)
    assert read_learned(tokenizer, row) == ["b<|im_end|>"]
    assert row.notes == ("the assistant's turn that opens the conversation is only read: nothing prompts it",)
    assert encode_conversation(tokenizer, messages) == [row]


def test_a_text_with_its_end_written_out_ends_once() -> None:
    tokenizer = build_chat_tokenizer("qwen2.5")
    end = tokenizer.eos_token
    written = encode_plain(tokenizer, f"a{end}\n")
    assert encode_completion(tokenizer, "Q:", f" a{end}\n") == encode_completion(tokenizer, "Q:", " a")
    assert tokenizer.decode(written.ids).endswith(f"a{end}")
    assert written == encode_plain(tokenizer, "a")


# {% generation %}


def test_marks_narrow_what_is_learned() -> None:
    tokenizer = build_chat_tokenizer("marked")
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{% generation %}{{ message.content }}",
        "{{ message.content[0] }}{% generation %}{{ message.content[1:] }}",
    )
    row = encode_messages(tokenizer, [user("a"), answer("bc"), user("d"), answer("ef")])
    assert read_learned(tokenizer, row) == ["c<|im_end|>", "f<|im_end|>"]
    assert (row.turns, row.end_tokens, row.notes) == (2, 2, ())


@pytest.mark.parametrize(("condition", "learned"), [("message.content != 'one'", ["two", "three"]), ("false", [])])
def test_answers_outside_the_marks(condition: str, learned: list[str]) -> None:
    tokenizer = build_chat_tokenizer("marked")
    marked = "{% generation %}{{ message.content }}{% endgeneration %}"
    sometimes = f"{{% if {condition} %}}{marked}{{% else %}}{{{{ message.content }}}}{{% endif %}}"
    tokenizer.chat_template = tokenizer.chat_template.replace(marked, sometimes)
    if learned:
        row = encode_messages(tokenizer, THREE)
        assert read_learned(tokenizer, row) == [f"{text}<|im_end|>" for text in learned]
        assert (row.turns, row.end_tokens, row.notes) == (2, 2, (chat.END_UNMARKED,))
    else:
        assert str(catch(tokenizer, THREE)) == "no answer inside the chat template's {% generation %} marks"


def test_an_end_behind_marks_and_white_space_is_noted() -> None:
    tokenizer = build_chat_tokenizer("marked")
    tokenizer.chat_template = tokenizer.chat_template.replace("{% endgeneration %}", "{% endgeneration %}{{ ' ' }}")
    row = encode_messages(tokenizer, ONE)
    assert read_learned(tokenizer, row) == ["A kettle, wörld."]
    assert (row.turns, row.end_tokens, row.notes) == (1, 0, (chat.END_UNMARKED,))


# Messages


@pytest.mark.parametrize(
    ("messages", "reason", "detail"),
    [
        ([], "no messages", ""),
        ("hello", "messages that aren't a list of objects", "str: hello"),
        ([user("a"), "b"], "messages that aren't a list of objects", "message 2: b"),
        ([{"content": "a"}], "a message without a role", "message 1"),
        ([{"role": None, "content": "a"}], "a message without a role", "message 1"),
        ([{"role": "narrator", "content": "a"}], "a message of an unknown role", "message 1: 'narrator'"),
        ([{"from": "alien", "value": "a"}], "a message of an unknown role", "message 1: 'alien'"),
        ([{"role": "user"}], "a message without content", "message 1"),
        ([user("a"), answer(None)], "a message without content", "message 2"),  # type: ignore[arg-type]
        ([{"role": "user", "content": 7}], "a message whose content isn't text", "message 1: 7"),
        ([{"role": "user", "content": [{"type": "image"}]}], "a message whose content isn't text", "{'type': 'image'}"),
        ([user("a"), user("b")], "no assistant turn", "roles: user, user"),
        ([user("a"), answer(" \n")], "an empty assistant turn", "message 2"),
        ([answer("a"), user("b")], "an assistant's turn that opens the conversation", "the first message"),
        ([user("a"), call("{")], "tool calls whose arguments aren't a JSON object", "'{'"),
        ([user("a"), call("[1]")], "tool calls whose arguments aren't a JSON object", "message 2: [1]"),
        ([user("a"), call('{"a": NaN}')], "tool calls whose arguments aren't a JSON object", "NaN"),
        ([user("a") | {"tool_calls": [1]}], BAD_CALLS, "message 1, user: [1]"),
        ([user("a"), answer("b") | {"tool_calls": {"name": "f"}}], BAD_CALLS, "message 2, assistant"),
        ([user("a"), answer("b") | {"tool_calls": [{"name": "f"}]}], BAD_CALLS, "message 2: {'name': 'f'}"),
        ([user("a"), answer("b") | {"tool_calls": [{"function": {"name": "f"}}]}], BAD_CALLS, "message 2"),
        ([{"from": "human", "value": "a"}, {"from": "function_call", "value": "f()"}], BAD_CALLS, "'f()'"),
    ],
)  # fmt: skip
def test_bad_messages_say_what_is_wrong(messages: Any, reason: str, detail: str) -> None:
    fault = catch(find_tokenizer("qwen2.5"), messages)
    assert str(fault) == reason
    assert detail in fault.detail
    assert bool(fault.detail) == bool(detail)


@pytest.mark.parametrize("tools", ["[", '{"name": "f"}', [1], 7])
def test_bad_tools_are_refused(tools: Any) -> None:
    assert str(catch(find_tokenizer("qwen2.5"), ONE, tools)) == "tools that aren't a list of objects"


@pytest.mark.parametrize(
    ("family", "messages", "words"),
    [
        ("gemma", SYSTEM, "the template says: System role not supported"),
        ("mistral", [user("a"), user("b"), answer("c")], "must alternate"),
        ("llama-2", CALLED, "must alternate"),
        ("llama-3", [user("a"), call({}) | {"tool_calls": call({})["tool_calls"] * 2}], "single tool-calls"),
    ],
)
def test_what_the_template_refuses_is_told(family: str, messages: Any, words: str) -> None:
    fault = catch(find_tokenizer(family), messages)
    assert str(fault) == "messages that the chat template refuses"
    assert words in fault.detail


def test_a_template_that_breaks_is_told() -> None:
    tokenizer = build_chat_tokenizer("qwen2.5")
    tokenizer.chat_template = "{{ messages[0].content + 1 }}"
    fault = catch(tokenizer, ONE)
    assert str(fault) == "messages that the chat template refuses"
    assert fault.detail.startswith("the template says: ")


def test_a_last_turn_that_is_not_the_assistants_is_kept_and_noted() -> None:
    tokenizer = find_tokenizer("qwen2.5")
    row = encode_messages(tokenizer, [*ONE, user("And that?")])
    assert read_learned(tokenizer, row) == ["A kettle, wörld.<|im_end|>"]
    assert tokenizer.decode(row.ids).endswith("And that?<|im_end|>\n")
    assert row.notes == ("the last turn isn't the assistant's",)
    assert encode_messages(tokenizer, [*ONE, user("And that?")], last_turn_only=True) == row


def test_messages_come_back_in_the_shape_of_templates() -> None:
    messages = [
        {"from": "system", "value": "s"},
        {"from": "human", "value": "a"},
        {"from": "function_call", "value": '{"name": "get_time", "arguments": {"city": "Lima"}}', "tool_calls": None},
        {"from": "observation", "value": "5"},
        {"from": "gpt", "value": "b", "weight": None},
        {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}], "tool_calls": None},
        {"role": "assistant", "content": "e", "tool_calls": [], "reasoning_content": "f"},
        call('{"city": "Lima"}', tool_call_id="g"),
    ]
    function = {"name": "get_time", "arguments": {"city": "Lima"}}
    calls = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
    before = json.dumps(messages)
    assert check_messages(messages) == [
        {"role": "system", "content": "s"}, user("a"), calls, {"role": "tool", "content": "5"}, answer("b"),
        user("cd"), answer("e") | {"reasoning_content": "f"}, calls | {"tool_call_id": "g"},
    ]  # fmt: skip
    assert check_messages(check_messages(messages)) == check_messages(messages)
    assert json.dumps(messages) == before


def test_sharegpt_gives_the_same_tokens() -> None:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    other = [{"from": names[message["role"]], "value": message["content"]} for message in SYSTEM]
    tokenizer = find_tokenizer("qwen2.5")
    assert encode_messages(tokenizer, other) == encode_messages(tokenizer, SYSTEM)


# Prompts with completions, and plain texts

PLAIN = [byte_level.LLAMA, byte_level.GPT2, byte_level.ROBERTA, byte_level.QWEN, byte_level.GEMMA]


@pytest.mark.parametrize("completion", [" b", " b{eos}", " b{eos}{eos}"])
@pytest.mark.parametrize("prompt", ["a:", "", "{bos}a:"])
@pytest.mark.parametrize("specials", PLAIN, ids=lambda specials: specials.listed[0])
def test_a_completion_is_learned_with_one_end(specials: Any, prompt: str, completion: str) -> None:
    tokenizer = build_tokenizer(specials, model_max_length=64)
    bos = tokenizer.bos_token or ""
    opens = tokenizer.bos_token_id in tokenizer("x")["input_ids"] or (prompt.startswith("{bos}") and bos)
    start = [tokenizer.bos_token_id] if opens else []
    prompt = prompt.format(bos=bos)
    row = encode_completion(tokenizer, prompt, completion.format(eos=tokenizer.eos_token))
    prompt_ids = tokenizer(prompt.removeprefix(bos), add_special_tokens=False)["input_ids"]
    assert row.ids == [*start, *prompt_ids, *tokenizer(" b", add_special_tokens=False)["input_ids"], row.ids[-1]]
    assert row.ids[-1] == tokenizer.eos_token_id
    assert read_learned(tokenizer, row) == [" b" + tokenizer.eos_token]
    assert (row.turns, row.end_tokens, row.notes) == (1, 1, ())


@pytest.mark.parametrize("prompt", ["a{eos}", "a{eos}c{eos}"])
@pytest.mark.parametrize("specials", PLAIN, ids=lambda specials: specials.listed[0])
def test_an_end_token_of_the_prompt_is_not_learned(specials: Any, prompt: str) -> None:
    """Turns may be parted by it; an answer that began with it would end before its first word."""
    tokenizer = build_tokenizer(specials, model_max_length=64)
    prompt = prompt.format(eos=tokenizer.eos_token)
    row = encode_completion(tokenizer, prompt, " b")
    assert read_learned(tokenizer, row) == [" b" + tokenizer.eos_token]
    asked = tokenize_open(tokenizer, prompt)
    assert row.ids[: len(asked)] == asked
    assert asked[-1] == tokenizer.eos_token_id


def test_a_completion_that_merges_with_its_prompt_is_tokenised_apart() -> None:
    """As generation writes it: after the tokens of the prompt alone."""
    tokenizer = build_merging_tokenizer()
    for completion in ("bc", "bc<|endoftext|>"):
        row = encode_completion(tokenizer, "a ", completion)
        assert tokenizer.convert_ids_to_tokens(row.ids) == ["a", "Ġ", "b", "c", "<|endoftext|>"]
        assert row.ids[:2] == tokenize_open(tokenizer, "a ")
        assert row.loss_mask == [0, 0, 1, 1, 1]
        assert row.notes == ()
    assert tokenizer.convert_ids_to_tokens(encode_completion(tokenizer, "a", " bc").ids)[1] == "Ġb"


def test_a_token_of_both_is_learned_and_noted_where_the_completion_alone_is_written_otherwise() -> None:
    from tokenizers import pre_tokenizers

    tokenizer = build_merging_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    row = encode_completion(tokenizer, " a ", "bc")
    assert tokenizer.convert_ids_to_tokens(row.ids)[1:] == ["a", "Ġb", "c", "<|endoftext|>"]
    assert row.loss_mask == [0, 0, 1, 1, 1]
    assert row.notes[0].startswith("the prompt's last token merges with the completion, and won't when")


def test_one_token_may_both_start_and_end_a_text() -> None:
    roles = {"bos_token": "</s>", "eos_token": "</s>"}
    specials = byte_level.SpecialTokens(("</s>",), roles, "</s> $A", "</s> $A </s> $B")  # as OPT
    tokenizer = build_tokenizer(specials, model_max_length=64)
    for prompt, mask in (("", [0, 1, 1]), ("a", [0, 0, 1, 1])):
        row = encode_completion(tokenizer, prompt, "b")
        assert tokenizer.decode(row.ids) == f"</s>{prompt}b</s>"
        assert row.loss_mask == mask


@pytest.mark.parametrize("text", ["a b", "a b{eos}", "{bos}a b"])
@pytest.mark.parametrize("specials", PLAIN, ids=lambda specials: specials.listed[0])
def test_a_plain_text_is_learned_whole(specials: Any, text: str) -> None:
    tokenizer = build_tokenizer(specials, model_max_length=64)
    text = text.format(eos=tokenizer.eos_token, bos=tokenizer.bos_token or "")
    row = encode_plain(tokenizer, text)
    assert read_learned(tokenizer, row) == ["a b" + tokenizer.eos_token]
    unread = [i for i, learned in zip(row.ids, row.loss_mask, strict=True) if not learned]
    opens = tokenizer.bos_token_id in tokenizer(text)["input_ids"][:1]
    assert unread == ([tokenizer.bos_token_id] if opens else [])


def test_empty_texts_are_refused() -> None:
    tokenizer = find_tokenizer("zephyr")
    with pytest.raises(ChatFaultError, match=r"^an empty completion$"):
        encode_completion(tokenizer, "a", " \n")
    with pytest.raises(ChatFaultError, match=r"^an empty text$"):
        encode_plain(tokenizer, "")


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = build_tokenizer(byte_level.BERT, model_max_length=64)
    with pytest.raises(ModelError, match="no end token"):
        encode_plain(tokenizer, "a")


# The choice of the template


def test_the_tokenizers_own_template_is_taken() -> None:
    tokenizer = build_chat_tokenizer("gemma")
    choice = choose_template(tokenizer, "auto")
    assert (choice.setting, choice.value) == ("model.chat_template", "own")
    assert tokenizer.chat_template == CHAT_FAMILIES["gemma"].template


def test_odd_templates_are_described() -> None:
    assert choose_template(build_chat_tokenizer("gemma"), "auto").reason == "the model's tokenizer brings it"
    words = "the model's tokenizer brings it; it doesn't write <s>, which the tokenizer puts before other texts"
    assert choose_template(build_chat_tokenizer("zephyr"), "auto").reason == words
    tokenizer = build_chat_tokenizer("qwen2.5")
    tokenizer.chat_template += "{% set today = strftime_now('%d %b %Y') %}"
    assert choose_template(tokenizer, "auto").reason.endswith("; it writes the day's date")


def test_without_a_template_the_remedy_is_told() -> None:
    tokenizer = build_tokenizer(byte_level.LLAMA, model_max_length=64)
    with pytest.raises(ModelError, match="brings no chat template") as caught:
        choose_template(tokenizer, "auto")
    assert caught.value.problems[0].remedy == "--chat-template chatml, or --chat-template PATH of a Jinja file"


def test_named_templates_need_a_default() -> None:
    tokenizer = build_chat_tokenizer("gemma")
    tokenizer.chat_template = {"tool_use": "x", "rag": "y"}
    with pytest.raises(ModelError, match="'default'") as caught:
        choose_template(tokenizer, "auto")
    assert caught.value.problems[0].found == "rag, tool_use"
    tokenizer.chat_template = {"default": CHAT_FAMILIES["gemma"].template, "rag": "y"}
    choose_template(tokenizer, "auto")
    assert read_learned(tokenizer, encode_messages(tokenizer, ONE)) == ["A kettle, wörld.<end_of_turn>"]


def test_a_template_without_a_generation_prompt_is_noted() -> None:
    tokenizer = build_chat_tokenizer("qwen2.5")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    )
    row = encode_messages(tokenizer, ONE)
    assert read_learned(tokenizer, row) == ["<|im_start|>assistant\nA kettle, wörld.<|im_end|>"]
    assert row.notes == (chat.NO_PROMPT,)
    for family in TURNS:  # Llama 2, Mistral and gpt-oss among them
        assert chat.NO_PROMPT not in encode_messages(find_tokenizer(family), ONE).notes


def test_chatml_with_its_own_tokens() -> None:
    tokenizer = build_chat_tokenizer("phi-3")
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    assert "<|im_end|> ends each turn" in choose_template(tokenizer, "chatml").reason
    row = encode_messages(tokenizer, SYSTEM)
    assert read_learned(tokenizer, row) == ["one<|im_end|>", "two<|im_end|>", "three<|im_end|>"]
    assert [tokenizer.decode(i) for i in describe_turn_ends(tokenizer)] == ["<|im_end|>", "<|endoftext|>"]
    check_inference(tokenizer, row, SYSTEM)


def test_chatml_writes_tools_calls_and_what_they_returned() -> None:
    tokenizer = build_chat_tokenizer("qwen2.5")
    choose_template(tokenizer, "chatml")
    two = {"role": "assistant", "content": "Both.", "tool_calls": [*call({})["tool_calls"] * 2]}
    messages = [*SYSTEM[:2], *CALLED[1:], user("And?"), two, *[{"role": "tool", "content": "6"}] * 2, answer("Six.")]
    row = encode_messages(tokenizer, messages, TOOLS)
    called, none = '<tool_call>\n{{"name": "get_time", "arguments": {}}}\n</tool_call>', "{}"
    assert tokenizer.decode(row.ids).split("<|im_start|>")[1:] == [
        "system\nBe kind.\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        f"{json.dumps(TOOLS[0])}\n</tools>\n\nFor each function call, return a json object with function name and "
        "arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
        '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n',
        "user\na?<|im_end|>\n",
        "assistant\n" + called.format('{"city": "Lima"}') + "<|im_end|>\n",
        'user\n<tool_response>\n{"t": "5"}\n</tool_response><|im_end|>\n',
        "assistant\nFive.<|im_end|>\n",
        "user\nAnd?<|im_end|>\n",
        f"assistant\nBoth.\n{called.format(none)}\n{called.format(none)}<|im_end|>\n",
        "user\n<tool_response>\n6\n</tool_response>\n<tool_response>\n6\n</tool_response><|im_end|>\n",
        "assistant\nSix.<|im_end|>\n",
    ]
    assert (row.turns, row.end_tokens, row.notes) == (4, 4, ())
    check_inference(tokenizer, row, check_messages(messages), TOOLS)
    without_system = encode_messages(tokenizer, messages[1:], TOOLS)
    assert tokenizer.decode(without_system.ids).startswith("<|im_start|>system\n# Tools\n")
    check_inference(tokenizer, without_system, check_messages(messages[1:]), TOOLS)


@pytest.mark.parametrize("specials", [byte_level.LLAMA, byte_level.GPT2], ids=["llama", "gpt2"])
def test_chatml_in_words_ends_answers_with_the_end_token(specials: Any) -> None:
    tokenizer = build_tokenizer(specials, model_max_length=64)
    choice = choose_template(tokenizer, "chatml")
    assert "stay ordinary text" in choice.reason
    assert f"{tokenizer.eos_token} ends each of the assistant's turns" in choice.reason
    row = encode_messages(tokenizer, THREE)
    assert read_learned(tokenizer, row) == [text + tokenizer.eos_token for text in ("one", "two", "three")]
    starts = tokenizer("")["input_ids"]
    words = "<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\none"
    assert row.ids[: len(starts) + len(words)] == starts + tokenizer(words, add_special_tokens=False)["input_ids"]
    assert (row.end_tokens, row.notes) == (3, ())
    assert describe_turn_ends(tokenizer) == (tokenizer.eos_token_id,)
    check_inference(tokenizer, row, THREE)


def test_chatml_in_words_needs_an_end_token() -> None:
    with pytest.raises(ModelError, match="or an end token"):
        choose_template(build_tokenizer(byte_level.BERT, model_max_length=64), "chatml")


def test_a_template_from_a_file(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(byte_level.LLAMA, model_max_length=64)
    path = tmp_path / "chat.jinja"
    path.write_text(CHAT_FAMILIES["zephyr"].template, encoding="utf-8")
    assert choose_template(tokenizer, str(path)).value == str(path)
    assert read_learned(tokenizer, encode_messages(tokenizer, ONE)) == ["A kettle, wörld.</s>"]


def test_a_template_may_refuse_other_messages_than_the_rows(tmp_path: Path) -> None:
    tokenizer = build_chat_tokenizer("qwen2.5")
    path = tmp_path / "chat.jinja"
    refusal = "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}"
    path.write_text(refusal + CHAT_FAMILIES["qwen2.5"].template, encoding="utf-8")
    choose_template(tokenizer, str(path))
    assert encode_messages(tokenizer, SYSTEM) == encode_messages(find_tokenizer("qwen2.5"), SYSTEM)
    assert describe_turn_ends(tokenizer) == (tokenizer.eos_token_id,)
    # Nothing is known of its ends, so all that it puts after an answer is one.
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "<|endoftext|><|im_end|>")
    learned = read_learned(tokenizer, encode_messages(tokenizer, SYSTEM))
    assert learned == [f"{text}<|endoftext|><|im_end|>" for text in ("one", "two", "three")]


@pytest.mark.parametrize(
    ("content", "what", "found"),
    [
        (None, "can't be read", "No such file"),
        (b"\xff", "can't be read", "bytes that are not UTF-8"),
        (b" \n", "is empty", ""),
        (b"{% if %}", "can't be parsed", "in line 1"),
        (b"{% for m in messages %}", "can't be parsed", "endfor"),
    ],
)
def test_files_that_are_no_template_are_refused(content: bytes | None, what: str, found: str, tmp_path: Path) -> None:
    tokenizer = build_chat_tokenizer("gemma")
    path = tmp_path / "chat.jinja"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=what) as caught:
        choose_template(tokenizer, str(path))
    assert found in caught.value.problems[0].found
    assert tokenizer.chat_template == CHAT_FAMILIES["gemma"].template


def test_a_broken_template_of_the_tokenizer_is_refused() -> None:
    tokenizer = build_chat_tokenizer("gemma")
    tokenizer.chat_template = "{{ messages"
    with pytest.raises(ModelError, match="the chat template of the model's tokenizer can't be parsed"):
        choose_template(tokenizer, "auto")


def test_turn_ends_of_every_family() -> None:
    ends = {
        family: [find_tokenizer(family).decode(i) for i in describe_turn_ends(find_tokenizer(family))]
        for family in TURNS
    }
    assert {family: found[0] for family, found in ends.items()} == {
        family: "<" + turn.rpartition("<")[2] for family, turn in TURNS.items()
    }
    assert ends["phi-3"] == ["<|end|>", "<|endoftext|>"]
    assert ends["gemma"] == ["<end_of_turn>", "<eos>"]


def test_turn_ends_of_a_template_that_rewrites_turns() -> None:
    tokenizer = build_chat_tokenizer("qwen3")
    tokenizer.eos_token = "<|endoftext|>"
    assert [tokenizer.decode(i) for i in describe_turn_ends(tokenizer)] == ["<|im_end|>", "<|endoftext|>"]


def test_turn_ends_follow_the_template() -> None:
    tokenizer = build_chat_tokenizer("phi-3")
    assert len(describe_turn_ends(tokenizer)) == 2
    tokenizer.chat_template = CHAT_FAMILIES["zephyr"].template
    assert describe_turn_ends(tokenizer) == (tokenizer.eos_token_id,)


@pytest.mark.parametrize("family", ["qwen2.5", "qwen3"])
def test_answers_with_a_weight_of_0_are_only_read(family: str) -> None:
    tokenizer = find_tokenizer(family)
    messages = [*THREE[:1], {**THREE[1], "weight": 0}, *THREE[2:4], *THREE[4:5], {**THREE[5], "weight": 1}]
    rows = encode_conversation(tokenizer, messages)
    plain = encode_conversation(tokenizer, THREE)
    learned = [text for row in plain for text in read_learned(tokenizer, row)]
    assert [text for row in rows for text in read_learned(tokenizer, row)] == learned[1:]
    assert [row.ids for row in rows] == [row.ids for row in plain][-len(rows) :]


@pytest.mark.parametrize("mark", [False, 0])
def test_answers_that_say_train_false_are_only_read(mark: Any) -> None:
    tokenizer = build_chat_tokenizer("qwen2.5")
    weighed = [*THREE[:1], {**THREE[1], "weight": 0}, *THREE[2:]]
    marked = [*THREE[:1], {**THREE[1], "train": mark}, *THREE[2:]]
    assert (
        encode_messages(tokenizer, marked) == encode_messages(tokenizer, weighed) != encode_messages(tokenizer, THREE)
    )


@pytest.mark.parametrize(("weight", "said"), [(0, "no assistant turn that is to be learned"), (0.5, BAD_WEIGHT)])
def test_weights_that_leave_nothing_or_are_something_else_are_refused(weight: float, said: str) -> None:
    messages = [{**m, "weight": weight} if m["role"] == "assistant" else m for m in THREE]
    for family in ("qwen2.5", "qwen3"):
        with pytest.raises(ChatFaultError, match=said):
            encode_conversation(find_tokenizer(family), messages)
    with pytest.raises(ChatFaultError, match=BAD_WEIGHT):
        encode_conversation(find_tokenizer("qwen2.5"), [THREE[0], {**THREE[1], "train": "false"}])
