"""What a cell asks: messages where it holds a list of objects, else its text as it stands; and who shares a batch."""

from __future__ import annotations

import pytest

from afina.data.batches import PROMPTS_AT_ONCE
from afina.pipeline.language.prompts import plan_batches, read_question


@pytest.mark.parametrize("text", ["[1] is the source?", " [a] or [b]", "[1, 2]", '["a"]', '[{"role": "user"'])
def test_a_text_that_begins_like_a_list_is_a_plain_prompt(text: str) -> None:
    assert read_question(text) == text


def test_a_text_that_spells_messages_is_messages() -> None:
    asked = {"role": "user", "content": "why?"}
    assert read_question('[{"role": "user", "content": "why?"}, {"role": "assistant", "content": "so"}]') == [asked]


def test_prompts_that_share_a_batch_have_the_same_room() -> None:
    lengths = [5, 95, 98, 90, 95, *range(10, 20)]
    assert plan_batches(lengths, 100, 10) == [[2], [1, 4], [3, *range(14, 7, -1)], [7, 6, 5, 0]]
    assert len(plan_batches([95] * (PROMPTS_AT_ONCE + 1), 100, 10)) == 2
    assert plan_batches([], 100, 10) == []
