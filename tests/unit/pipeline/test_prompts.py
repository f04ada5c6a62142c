"""What a cell asks: messages where it holds a list of objects, else its text as it stands."""

from __future__ import annotations

import pytest

from afina.pipeline.language.prompts import read_question


@pytest.mark.parametrize("text", ["[1] is the source?", " [a] or [b]", "[1, 2]", '["a"]', '[{"role": "user"'])
def test_a_text_that_begins_like_a_list_is_a_plain_prompt(text: str) -> None:
    assert read_question(text) == text


def test_a_text_that_spells_messages_is_messages() -> None:
    asked = {"role": "user", "content": "why?"}
    assert read_question('[{"role": "user", "content": "why?"}, {"role": "assistant", "content": "so"}]') == [asked]
