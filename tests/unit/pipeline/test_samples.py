"""Where the rows are cut whose answers are shown before and after."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from afina.pipeline.language.answers import take_sample

TOKENIZER: Any = SimpleNamespace(decode=lambda ids, **_: " ".join(map(str, ids)))


@pytest.mark.parametrize(
    ("form", "marks", "prompt", "reference"),
    [
        ("text", [0, 1, 1, 1, 1, 1, 1], 4, "4 5 6"),  # the first window, behind a start token
        ("text", [0, 0, 1, 1, 1, 1], 4, "4 5"),  # a later one, behind the last token of that before it
        ("text", [1, 1, 1, 1], 2, "2 3"),
        ("completion", [0, 0, 1, 1, 1, 1], 2, "2 3 4 5"),
        ("messages", [0, 1, 0, 0, 1, 1, 0], 4, "4 5"),
    ],
)
def test_a_plain_text_is_cut_in_its_middle_and_others_before_the_last_answer(
    form: Any, marks: list[int], prompt: int, reference: str
) -> None:
    ids = np.arange(len(marks))
    data: Any = SimpleNamespace(
        tokens=SimpleNamespace(row=lambda _: ids), marks=lambda _: np.array(marks), row_numbers=[7]
    )
    sample = take_sample(data, 0, TOKENIZER, form)
    assert (sample.row, sample.prompt_ids, sample.reference) == (7, list(range(prompt)), reference)
