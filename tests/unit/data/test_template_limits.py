"""Good templates write what they write without limits, and hostile ones are refused soon and cheaply."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from transformers.utils import chat_template_utils

from afina.data import chat_template, template_limits
from afina.data.template_limits import LimitedEnvironment, TemplateLimitError, limit_templates, measure
from afina.errors import ModelError
from afina.testing.templates import CHAT_FAMILIES

MESSAGES = [
    {"role": "system", "content": "Be kind. {{ 7 * 7 }} {% for i in range(9) %}"},
    {"role": "user", "content": "a\tb\n{{ messages }} {# no #}"},
    {
        "role": "assistant",
        "content": "c",
        "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, 2.5, None]}}}],
    },
    {"role": "user", "content": "<b>&amp;</b> é 😀"},
]
TEMPLATES = json.loads(Path(__file__).with_name("templates.json").read_text(encoding="utf-8"))
GOOD, HOSTILE = TEMPLATES["good"], TEMPLATES["hostile"]
LONG = {
    "brackets": "{{ " + "[" * 50_000 + "]" * 50_000 + " }}",
    "characters": "x" * 300_000,
    "conditions": "{% if 1 %}" * 5_000 + "{% endif %}" * 5_000,
    "output": "{% for i in range(99999) %}" + "x" * 100_000 + "{% endfor %}",
    "parentheses": "{{ " + "(" * 50_000,
    "searches": "{% set s = 'ab' * 4000000 %}{{ " + " or ".join(["('ac' in s)"] * 5_000) + " }}",
    "signs": "{{ " + "-" * 20_000 + "1 }}",
    "stored output": "{% set x %}{% for i in range(99999) %}" + "y" * 10_000 + "{% endfor %}{% endset %}",
}


@pytest.fixture(scope="module", autouse=True)
def _limits() -> None:
    limit_templates()


def render(text: str) -> str:
    return str(chat_template_utils.render_jinja_template([MESSAGES], chat_template=text)[0][0])


def render_theirs(text: str) -> str:
    """What transformers' own sandbox makes of it."""
    template = limit_templates()(text)
    return str(template.render(messages=MESSAGES, tools=None, documents=None, add_generation_prompt=False))


def outcome(function: Any, text: str) -> tuple[str, str]:
    try:
        return "text", function(text)
    except Exception as error:
        return type(error).__name__, str(error)


@pytest.mark.parametrize("text", [*GOOD, *(family.template for family in CHAT_FAMILIES.values())])
def test_good_templates_write_the_same(text: str) -> None:
    assert outcome(render, text) == outcome(render_theirs, text)


def test_the_good_ones_are_mostly_good() -> None:
    refused = [text for text in GOOD if outcome(render, text)[0] != "text"]
    assert (len(GOOD), len(refused)) == (18, 4), refused
    assert len(HOSTILE) > 40


@pytest.mark.parametrize("text", [*HOSTILE, *LONG.values()], ids=[*HOSTILE, *LONG])
def test_hostile_templates_end_soon(text: str) -> None:
    start = time.monotonic()
    with pytest.raises((TemplateError, OverflowError, RecursionError, MemoryError, SyntaxError)):
        render(text)
    assert time.monotonic() - start < template_limits.MAX_SECONDS + 3


def test_a_budget_is_that_of_one_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_limits, "MAX_STEPS", len(MESSAGES))
    text = "{# a budget #}{% for m in messages %}{{ m.role }}{% endfor %}"
    assert render(text) == render(text)
    with pytest.raises(TemplateLimitError) as caught:
        render(text + text)
    assert str(caught.value) == "it takes more than 4 steps for one conversation"


def test_a_template_cannot_reach_the_counter() -> None:
    for name in ("spend", "weigh", "environment", "start_budget", "steps"):
        assert render(f"{{{{ {name} is defined }}}}") == "False"
    loop = "{% for i in range(99999) %}{% for j in range(9) %}{% endfor %}{% endfor %}"
    text = "{% set spend = 1 %}{% set environment = 2 %}" + loop
    with pytest.raises(TemplateLimitError, match="steps"):
        render(text)


def test_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_limits, "MAX_SECONDS", 0.0)
    with pytest.raises(TemplateLimitError, match="takes more than 0 seconds"):
        render("{% for i in range(1000) %}{% endfor %}{# time #}")


def test_sizes() -> None:
    assert measure("abc") == 3
    assert measure(["abc", ["d"]]) == 2 * 8 + 3 + 8 + 1
    assert measure({"ab": "c"}) == 2 * 8 + 3
    assert measure(7) == 0
    shared: list[Any] = ["a"]
    for _ in range(60):
        shared = [shared, shared]
    assert measure(shared) > template_limits.MAX_SIZE


def test_the_environment_is_like_theirs() -> None:
    theirs = limit_templates()("").environment
    ours = LimitedEnvironment(theirs)
    assert set(theirs.filters) - set(ours.filters) == {"urlize"}
    assert set(theirs.globals) - set(ours.globals) == {"lipsum"}
    assert set(ours.extensions) == set(theirs.extensions)
    assert (ours.trim_blocks, ours.lstrip_blocks) == (theirs.trim_blocks, theirs.lstrip_blocks) == (True, True)


def test_a_hostile_template_is_an_error_of_the_model(find_tokenizer: Any) -> None:
    tokenizer = find_tokenizer("llama")
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    expected = (
        "the chat template costs too much to render\n"
        "  found: it takes more than 200,000 steps for one conversation\n"
        "  expected: a text in a few milliseconds\n"
        "  do: --chat-template chatml, or --chat-template PATH of a Jinja file; where one row is millions of "
        "characters long, without it"
    )
    before = tokenizer.chat_template
    tokenizer.chat_template = loop
    try:
        with pytest.raises(ModelError) as caught:
            chat_template.choose_template(tokenizer, "auto")
        assert str(caught.value) == expected
        # One that only begins when a conversation is longer than the one it is tried with.
        tokenizer.chat_template = "{% if messages|length > 6 %}" + loop + "{% endif %}"
        chat_template.choose_template(tokenizer, "auto")
        with pytest.raises(ModelError) as caught:
            chat_template.render(tokenizer, chat_template.PROBE * 2, None)
        assert str(caught.value) == expected
    finally:
        tokenizer.chat_template = before


def test_rows_are_never_templates(find_tokenizer: Any) -> None:
    """What looks like Jinja in a message, a role, a tool or a special token comes out as it went in."""
    tokenizer = find_tokenizer("llama")
    before = tokenizer.chat_template
    text = "{{ 7 * 7 }}{% for i in range(9) %}x{% endfor %}{{ ''.__class__ }}{# gone #}{% raw %}{{ '{{' }}"
    try:
        tokenizer.chat_template = "{% for m in messages %}{{ m.role ~ m.content }}{% endfor %}{{ tools|tojson }}"
        tools = [{"type": "function", "function": {"name": text}}]
        written = chat_template.render(tokenizer, [{"role": "user", "content": text}], tools)
    finally:
        tokenizer.chat_template = before
    assert written == f"user{text}{json.dumps(tools, ensure_ascii=False)}"
