"""Guessing columns and task: by name, by content, and asking where it isn't clear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from afina.config.run import DataConfig
from afina.data.columns import ColumnChoice, check_columns, choose_columns
from afina.data.read import read_parts
from afina.errors import DataError

PROSE = [f"this is sentence number {i}, which goes on for a while" for i in range(60)]
WORDS = ["pos", "neg", "neu"] * 20


def choose(folder: Path, columns: dict[str, list[Any]], task: Any = "auto", **settings: Any) -> ColumnChoice:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return choose_columns(read_parts(rows, folder), DataConfig(**settings), task)


def message(folder: Path, columns: dict[str, list[Any]], task: Any = "auto", **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        choose(folder, columns, task, **settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("text", "label"),
        ("Reseña", "Clase"),
        ("review_text", "Sentiment"),
        ("mensaje", "categoría"),
        ("title", "y"),
    ],
)
def test_names_decide(tmp_path: Path, text: str, label: str) -> None:
    choice = choose(tmp_path, {"id": list(range(60)), label: WORDS, text: PROSE, "other": PROSE})
    assert (choice.text, choice.text_pair, choice.label) == (text, None, label)
    assert [(r.setting, r.value, r.reason) for r in choice.reasons] == [
        ("data.label_column", label, f"{label!r} is a usual name for it"),
        ("data.text_column", text, f"{text!r} is a usual name for it"),
        ("task", "text-classification", "labels are words, 3 different ones"),
    ]


def test_contents_decide_where_names_dont(tmp_path: Path) -> None:
    choice = choose(tmp_path, {"id": list(range(60)), "c1": PROSE, "c2": WORDS})
    assert (choice.text, choice.label) == ("c1", "c2")
    assert [r.reason for r in choice.reasons[:2]] == [
        "the only column of longer texts that seldom repeat",
        "the only column with few values that repeat",
    ]


@pytest.mark.parametrize(
    ("first", "second"), [("premise", "hypothesis"), ("Question1", "Question2"), ("text_a", "text_b")]
)
def test_pairs(tmp_path: Path, first: str, second: str) -> None:
    columns = {first: PROSE, second: PROSE[::-1], "label": WORDS}
    choice = choose(tmp_path / "a", columns)
    assert (choice.text, choice.text_pair, choice.text_names) == (first, second, (first, second))
    assert choose(tmp_path / "b", columns, text_pair_column="", text_column=first).text_pair is None
    assert choose(tmp_path / "c", columns, text_pair_column=second).text == first


def test_flags_win(tmp_path: Path) -> None:
    columns = {"text": PROSE, "label": WORDS, "body": PROSE, "kind": ["x", "y"] * 30}
    choice = choose(tmp_path, columns, text_column="body", label_column="kind")
    assert (choice.text, choice.label, [r.setting for r in choice.reasons]) == ("body", "kind", ["task"])


@pytest.mark.parametrize("key", ["text", "text_pair"])
def test_a_label_that_is_its_own_text_is_refused(tmp_path: Path, key: str) -> None:
    flag = {"text": "--text-column", "text_pair": "--text-pair-column"}[key]
    given: dict[str, Any] = {"label_column": "label", f"{key}_column": "label"}
    assert message(tmp_path, {"text": PROSE, "label": WORDS}, **given) == (
        "the text and the label are the same column 'label'\n"
        f"  found: {flag} label and --label-column label\n"
        "  expected: two columns\n"
        f"  do: another {flag}, or leave one of the two out and it is guessed"
    )


def test_ambiguous_columns_are_asked_for(tmp_path: Path) -> None:
    columns = {"review": PROSE, "comment": PROSE, "label": WORDS}
    example = '"this is sentence number 0, which goes …'
    assert message(tmp_path / "a", columns) == (
        "the data: it is not clear which column holds the text\n"
        f"  found: several that it may be: review (text, such as {example}); "
        f"comment (text, such as {example})\n"
        "  do: --text-column review or --text-column comment"
    )
    assert message(tmp_path / "b", {"text": PROSE, "a": WORDS, "b": WORDS}) == (
        "the data: it is not clear which column holds the label\n"
        '  found: several that it may be: a (text, such as "pos"); b (text, such as "pos")\n'
        "  do: --label-column a or --label-column b; or --task text-generation, for a language model that learns to"
        " write such texts"
    )


def test_missing_columns_are_named_together(tmp_path: Path) -> None:
    columns = {"text": PROSE, "label": WORDS}
    assert message(tmp_path, columns, text_column="txt", label_column="nothing") == (
        "2 problems\n"
        "1. the data has no column 'txt'\n"
        "     found: columns: text, label; the nearest name is 'text'\n"
        "     expected: a column 'txt'\n"
        "     do: --text-column text\n"
        "2. the data has no column 'nothing'\n"
        "     found: columns: text, label\n"
        "     expected: a column 'nothing'\n"
        "     do: --label-column NAME"
    )


@pytest.mark.parametrize("numbers", [list(range(60)), [str(i) for i in range(60)]])
def test_a_text_column_of_numbers_is_refused(tmp_path: Path, numbers: list[Any]) -> None:
    example = "0" if isinstance(numbers[0], int) else '"0"'
    assert message(tmp_path, {"text": numbers, "label": WORDS, "b": PROSE}, text_column="text") == (
        "the data: the text column 'text' holds numbers\n"
        f"  found: values such as {example}\n"
        "  expected: text\n"
        "  do: --text-column NAME, one of: label, b"
    )


@pytest.mark.parametrize(
    ("labels", "task", "multi_label", "reason"),
    [
        ([True, False] * 30, "text-classification", False, "labels are true or false"),
        ([i / 10 for i in range(60)], "text-regression", False, "labels are numbers with decimals"),
        ([f"{i / 4}" for i in range(60)], "text-regression", False, "labels are numbers with decimals"),
        (
            [i % 5 for i in range(60)],
            "text-classification",
            False,
            "labels are whole numbers with 5 different values, 20 at most",
        ),
        (
            [str(3 * (i % 20)) for i in range(60)],
            "text-classification",
            False,
            "labels are whole numbers with 20 different values, 20 at most",
        ),
        (
            [3 * (i % 21) for i in range(60)],
            "text-regression",
            False,
            "labels are whole numbers with 21 different values",
        ),
        (
            [float(i % 5) for i in range(60)],
            "text-classification",
            False,
            "labels are whole numbers with 5 different values, 20 at most",
        ),
        (
            [["a"], ["a", "b"], []] * 20,
            "text-classification",
            True,
            "labels are lists: a row may have several",
        ),
        (
            ['["a"]', '["a", "b"]', "[]"] * 20,
            "text-classification",
            True,
            "labels are lists: a row may have several",
        ),
    ],
)
def test_task_from_labels(tmp_path: Path, labels: list[Any], task: str, multi_label: bool, reason: str) -> None:
    choice = choose(tmp_path, {"text": PROSE, "label": labels})
    assert (choice.task, choice.multi_label, choice.reasons[-1].reason) == (task, multi_label, reason)


@pytest.mark.parametrize(("rows_each", "task"), [(5, "text-classification"), (4, "text-regression")])
def test_many_whole_numbers_are_classes_when_contiguous_and_repeated(tmp_path: Path, rows_each: int, task: str) -> None:
    labels = [i for i in range(30) for _ in range(rows_each)]
    texts = [f"a text of some length, with the number {i}" for i in range(len(labels))]
    assert choose(tmp_path, {"text": texts, "label": labels}).task == task


def test_separator_makes_it_multi_label(tmp_path: Path) -> None:
    choice = choose(tmp_path, {"text": PROSE, "label": ["a|b", "a", "b"] * 20}, label_separator="|")
    assert (choice.multi_label, choice.reasons[-1].reason) == (
        True,
        "'|' stands between the labels of a row: a row may have several",
    )


def test_numbers_and_words_mixed(tmp_path: Path) -> None:
    labels: list[Any] = ["5", "n/a", *[str(i % 4) for i in range(57)], "n/a"]
    assert message(tmp_path / "a", {"text": PROSE, "label": labels}) == (
        "the data: the label column 'label' mixes numbers and words; the rarer are words (rows 2, 60)\n"
        "  found: 58 numbers and 2 words, such as 'n/a'\n"
        "  expected: labels that are all numbers, or all names of classes\n"
        "  do: mend these rows; or write --task text-classification, "
        "which takes every value as the name of a class"
    )
    assert choose(tmp_path / "b", {"text": PROSE, "label": labels}, "text-classification").task == "text-classification"


@pytest.mark.parametrize(
    ("labels", "task", "expected"),
    [
        (
            ["a"] * 60,
            "auto",
            "the data: the label column 'label' holds one class only\n  found: 'a' in all rows\n",
        ),
        (
            [2.5] * 60,
            "auto",
            "the data: the label column 'label' holds one number only\n  found: 2.5 in all rows\n",
        ),
        ([None] * 60, "auto", "the data: the label column 'label' is empty\n"),
        (
            ["x", "y"] * 30,
            "text-regression",
            "the data: the label column 'label' holds no numbers\n  found: labels such as 'x'\n",
        ),
        (
            [["x"], ["y"]] * 30,
            "text-regression",
            "the data: the label column 'label' holds lists, which are no numbers to predict\n",
        ),
        (
            PROSE,
            "auto",
            "the data: the label column 'label' looks like free text or numbers, not like names of classes\n"
            "  found: 60 different values in 60 rows, such as "
            "'this is sentence number 0, which goes on for a while'\n",
        ),
    ],
)
def test_labels_that_teach_nothing(tmp_path: Path, labels: list[Any], task: str, expected: str) -> None:
    found = message(tmp_path, {"text": PROSE, "label": labels}, task, label_column="label")
    assert found.startswith(expected)


def test_other_parts_must_have_the_columns(tmp_path: Path) -> None:
    train = [{"text": text, "label": label} for text, label in zip(PROSE, WORDS, strict=True)]
    tables = read_parts({"train": train, "test": [{"text": "a", "tag": "b"}]}, tmp_path)
    with pytest.raises(DataError) as caught:
        choose_columns(tables, DataConfig(), "auto")
    assert str(caught.value) == (
        "the data, part 'test' has no column 'label'\n"
        "  found: columns: text, tag\n"
        "  expected: a column 'label'\n"
        "  do: rename a column to 'label'; or take this part away, and one is carved out of the training rows"
    )
    check_columns(tables["test"], ["text"])


def test_decimal_commas_are_named(tmp_path: Path) -> None:
    rows = [{"text": f"text number {i}", "label": f"{i % 7},{i}5"} for i in range(100)]
    for task in ("auto", "text-regression"):
        with pytest.raises(DataError, match=r"write 0\.65 for 0,65"):
            choose_columns(read_parts(rows, tmp_path / task), DataConfig(), task)  # type: ignore[arg-type]


def test_rows_inside_of_a_single_object_are_told(tmp_path: Path) -> None:
    inside = [{"text": "a", "label": "b"}, {"text": "c", "label": "d"}]
    told = "do: write what stands under 'data' as a file of its own, a row for each entry"
    assert told in message(tmp_path / "a", {"data": [inside]})
    assert told in message(tmp_path / "c", {"version": ["1.1"], "data": [inside]}, text_column=None)
    assert told not in message(tmp_path / "b", {"data": [inside, inside]})


@pytest.mark.parametrize("labels", [[[0, 1, 0], [1, 1, 0]], [["0", "0"], ["1", "0"]], [[True, True], [False, True]]])
def test_marks_instead_of_names_are_refused(labels: list[Any], tmp_path: Path) -> None:
    found = message(tmp_path, {"text": PROSE, "label": labels * 30})
    assert found.startswith("the data: the label column 'label' holds a mark for each label, and no names\n")


def test_names_that_are_numbers_stay_names(tmp_path: Path) -> None:
    assert choose(tmp_path, {"text": PROSE, "label": [["0"], ["0", "1"]] * 30}).multi_label
