"""Where no spaces part the words, characters stand for them: in counts, in what is nearly the same, in baselines."""

from __future__ import annotations

import pytest

import afina
from afina.data.scripts import count_words, is_spaceless, split_words
from afina.evaluation.linear import fit_linear


@pytest.mark.parametrize(
    ("text", "words", "pieces"),
    [
        ("a plain text", 3, ["a", "plain", "text"]),
        ("", 1, []),
        ("这家餐厅很好", 6, list("这家餐厅很好")),
        ("我用 iPhone 拍照", 4, ["我", "用", "iPhone", "拍", "照"]),
        ("ไทย", 3, list("ไทย")),
        ("schön wär's", 2, ["schön", "wär's"]),
        ("한국어 문장", 2, ["한국어", "문장"]),
    ],
)
def test_words(text: str, words: int, pieces: list[str]) -> None:
    assert (count_words(text), split_words(text)) == (words, pieces)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["这很好", "a b"], True),
        (["plain words", "and 中 one"], False),
        (["123", "?"], False),
        (["これはペンです"], True),
    ],
)
def test_the_script_decides_and_not_the_length_of_words(texts: list[str], expected: bool) -> None:
    assert is_spaceless(texts) is expected


GOOD, BAD = ("服务很好", "菜很好吃", "非常满意"), ("服务太差", "菜太难吃", "非常失望")
TEXTS = [f"{first}{second}" for first in GOOD for second in GOOD if first != second]
OTHERS = [f"{first}{second}" for first in BAD for second in BAD if first != second]


def test_short_texts_without_spaces_have_a_baseline_that_reads_them() -> None:
    import numpy as np

    labels = np.array([1] * len(TEXTS) + [0] * len(OTHERS))
    found = fit_linear("multiclass", [*TEXTS, *OTHERS], labels, ["很好很满意", "太差太失望"], 2, 0)
    assert found.values.argmax(axis=1).tolist() == [1, 0]


def test_a_check_reads_characters() -> None:
    rows = [{"text": text, "label": "好"} for text in TEXTS] + [{"text": text, "label": "差"} for text in OTHERS]
    rows.append({"text": f"{TEXTS[0]}啊", "label": "好"})
    report = afina.check(rows, verbose=False)
    codes = {finding.code for finding in report.findings}
    assert "one-word-text" not in codes
    assert "near-duplicates" in codes
    assert report.facts["words"]["median"] == 8
