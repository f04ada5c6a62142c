"""Arguments of a chat template are its defaults from then on, and those it doesn't know are refused."""

from __future__ import annotations

from typing import Any

import pytest

from afina.data.chat import encode_messages
from afina.data.chat_template import choose_template
from afina.data.template_arguments import list_arguments, set_arguments
from afina.errors import ConfigError
from afina.testing.templates import CHAT_FAMILIES, build_chat_tokenizer

ONE = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
KNOWN = {"qwen3": {"enable_thinking"}}


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_the_names_that_a_template_knows(family: str) -> None:
    assert list_arguments(CHAT_FAMILIES[family].template) == KNOWN.get(family, set())


def test_a_name_with_a_default_of_the_template_is_known() -> None:
    template = (
        "{% if date is not defined %}{% set date = strftime_now('%d') %}{% endif %}{{ date }}"
        "{% set effort = effort | default('low') %}{% for m in messages %}{{ m + eos_token }}{% endfor %}"
    )
    assert list_arguments(template) == {"date", "effort"}


def test_an_argument_is_used_from_then_on_and_others_may_still_be_given() -> None:
    tokenizer = build_chat_tokenizer("qwen3")
    before = tokenizer.apply_chat_template(ONE[:1], tokenize=False, add_generation_prompt=True)
    choice = choose_template(tokenizer, "auto", enable_thinking=False)
    assert choice.reason == "the model's tokenizer brings it; with enable_thinking=False"
    prompt = tokenizer.apply_chat_template(ONE[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == before + "<think>\n\n</think>\n\n"
    row = encode_messages(tokenizer, ONE)
    assert (
        tokenizer.decode([token for token, mark in zip(row.ids, row.loss_mask, strict=True) if mark]) == "b<|im_end|>"
    )
    options: Any = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": True}
    assert tokenizer.apply_chat_template(ONE[:1], **options) == before


@pytest.mark.parametrize("beginning", ["", "\n", "  {% if true %}", "\n  {%- if true %}", "{{- 'x' }}"])
@pytest.mark.parametrize(
    "value", [True, False, None, 3, 0.5, "%} }} \" ' \\ \n ñ \U0001f600", ["a", None], {"a": [True]}], ids=repr
)
def test_values_and_the_rest_of_the_template_are_kept(beginning: str, value: Any) -> None:
    tokenizer = build_chat_tokenizer("qwen2.5")
    tokenizer.chat_template = beginning + "{{ level | tojson }}" + ("{% endif %}" if "if" in beginning else "")
    given = tokenizer.apply_chat_template(ONE, tokenize=False, level=value)
    set_arguments(tokenizer, {"level": value})
    assert tokenizer.apply_chat_template(ONE, tokenize=False) == given


def test_each_of_several_templates_gets_what_it_knows() -> None:
    tokenizer = build_chat_tokenizer("qwen3")
    tokenizer.chat_template = {"default": CHAT_FAMILIES["qwen3"].template, "rag": "{{ messages }}"}
    set_arguments(tokenizer, {"enable_thinking": False})
    assert "enable_thinking = false" in tokenizer.chat_template["default"]
    assert tokenizer.chat_template["rag"] == "{{ messages }}"


@pytest.mark.parametrize(
    ("family", "arguments", "message"),
    [
        ("qwen3", {"enable_thinkin": False, "x": 1},
         "2 problems\n"
         "1. the chat template doesn't know an argument\n     found: enable_thinkin\n"
         "     expected: one of enable_thinking\n     do: --chat-template-kwargs '{enable_thinking: false}'\n"
         "2. the chat template doesn't know an argument\n     found: x\n"
         "     expected: one of enable_thinking\n     do: leave it out of --chat-template-kwargs"),
        ("smollm2", {"messages": []},
         "the chat template doesn't know an argument\n  found: messages\n"
         "  expected: none: this chat template takes no arguments\n  do: leave it out of --chat-template-kwargs"),
    ],
)  # fmt: skip
def test_unknown_arguments_are_refused(family: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_template(build_chat_tokenizer(family), "auto", **arguments)
    assert str(caught.value) == message
