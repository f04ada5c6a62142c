"""From a file to parts: what is used, what is left out and told, and what stops."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from afina.config.run import DataConfig
from afina.data import spool
from afina.data.examples import Examples, load_examples
from afina.data.read import read_parts
from afina.errors import ConfigError, DataError

MEND = "mend these rows, or leave them out with --set data.on_bad_rows=drop"


def make_rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"text": f"text number {i}", "label": ("pos", "neg")[i % 2], **more} for i in range(count)]


def load(source: Any, folder: Path, task: Any = "auto", seed: int = 42, **settings: Any) -> Examples:
    return load_examples(source, DataConfig(**settings), task, seed, read_parts(source, folder))


def message(source: Any, folder: Path, task: Any = "auto", **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(source, folder, task, **settings)
    return str(caught.value)


def list_texts(part: Any) -> list[Any]:
    return [text for batch in part.texts(7) for text in batch]


def test_one_table_gives_three_parts(tmp_path: Path) -> None:
    rows = make_rows(100)
    examples = load(rows, tmp_path)
    assert {name: len(part) for name, part in examples.parts.items()} == {
        "train": 70,
        "validation": 10,
        "test": 20,
    }
    assert (examples.labels.kind, examples.labels.names) == ("multiclass", ("neg", "pos"))
    assert examples.class_counts["train"] == {"neg": 35, "pos": 35}
    assert examples.counts == {"read": 100, "used": 100, "dropped": {}}
    for part in examples.parts.values():
        assert list_texts(part) == [rows[number - 1]["text"] for number in part.row_numbers]
        labels = [examples.labels.names[label] for label in part.labels]
        assert labels == [rows[number - 1]["label"] for number in part.row_numbers]
        assert part.labels.dtype == np.int64


def test_given_parts_are_kept_and_the_missing_one_is_carved(tmp_path: Path) -> None:
    train, test = make_rows(100), [{"text": f"new {i}", "label": "pos"} for i in range(10)]
    examples = load({"train": train, "test": [*test, train[0]]}, tmp_path / "a")
    assert {name: len(part) for name, part in examples.parts.items()} == {
        "train": 90,
        "validation": 10,
        "test": 11,
    }
    examples = load({"train": train, "validation": test}, tmp_path / "b")
    assert {name: len(part) for name, part in examples.parts.items()} == {
        "train": 80,
        "validation": 10,
        "test": 20,
    }
    examples = load({"train": train, "validation": test, "test": test}, tmp_path / "c")
    assert {name: len(part) for name, part in examples.parts.items()} == {
        "train": 100,
        "validation": 10,
        "test": 10,
    }


def test_pairs_multi_label_and_regression(tmp_path: Path) -> None:
    rows = [{"premise": f"a {i}", "hypothesis": f"b {i}", "label": [["x"], ["x", "y"], []][i % 3]} for i in range(60)]
    examples = load(rows, tmp_path / "a")
    part = examples.parts["test"]
    assert list_texts(part) == [(f"a {n - 1}", f"b {n - 1}") for n in part.row_numbers]
    assert (part.labels.dtype, part.labels.shape) == (np.uint8, (len(part), 2))
    assert part.labels.tolist() == [
        [int("x" in r), int("y" in r)] for r in (rows[n - 1]["label"] for n in part.row_numbers)
    ]
    assert sum(counts["x"] for counts in examples.class_counts.values()) == 40
    numbers = load([{"text": f"t {i}", "label": i / 10} for i in range(60)], tmp_path / "b")
    part = numbers.parts["test"]
    assert part.labels.dtype == np.float32
    assert part.labels.tolist() == pytest.approx([(n - 1) / 10 for n in part.row_numbers])
    assert numbers.class_counts == {"train": {}, "validation": {}, "test": {}}
    for rows, strata in (
        (examples, "the rarest label of each row"),
        (numbers, "size of the number, in tenths of the rows"),
        (load(make_rows(60), tmp_path / "c"), "label"),
    ):
        assert rows.notes[-1].endswith(
            f"validation and test chosen with seed 42, stratified by {strata}, equal texts on one side"
        )


BAD = [
    {"text": "  ", "label": "pos"}, {"text": None, "label": "pos"}, {"text": "a", "label": None},
    {"text": "b", "label": ["pos"]}, {"text": 7, "label": "neg"},
]  # fmt: skip


def test_all_problems_of_all_parts_come_in_one_error(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*make_rows(20), *BAD]) + "{oops\n")
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": "c", "label": "other"}) + "\n")
    assert message(tmp_path, tmp_path / "spool") == (
        "6 problems\n"
        "1. train.jsonl: rows that are not valid JSON (row 26)\n"
        "     found: a key that isn't in double quotes at character 2\n"
        "     expected: one JSON object a row\n"
        f"     do: {MEND}\n"
        "2. train.jsonl: rows with no text in 'text' (rows 21, 22)\n"
        '     found: "  "\n'
        "     expected: text that is more than white space\n"
        f"     do: {MEND}\n"
        "3. train.jsonl: rows with no label in 'label' (row 23)\n"
        "     found: an empty cell\n"
        "     expected: a label in each row\n"
        f"     do: {MEND}\n"
        "4. train.jsonl: rows with a label that is a list or an object in 'label' (row 24)\n"
        '     found: ["pos"]\n'
        "     expected: the name of a class\n"
        f"     do: {MEND}\n"
        "5. train.jsonl: rows with a text that is a number, a list or an object in 'text' (row 25)\n"
        "     found: 7\n"
        "     expected: text\n"
        f"     do: {MEND}\n"
        "6. test.jsonl: rows with a label that the training part doesn't have in 'label' (row 1)\n"
        '     found: "other"\n'
        "     expected: labels that stand in the training part too: neg, pos\n"
        f"     do: {MEND}"
    )


@pytest.mark.parametrize("task", ["auto", "text-regression"])
@pytest.mark.parametrize("spelling", ["nan", "NaN", "inf", "-Infinity"])
def test_a_number_that_is_not_finite_is_said_by_row(spelling: str, task: Any, tmp_path: Path) -> None:
    lines = [f"text {i},{spelling if i in (3, 30) else i / 7}\n" for i in range(40)]
    (tmp_path / "a.csv").write_text("text,score\n" + "".join(lines))
    assert message(tmp_path / "a.csv", tmp_path / "spool", task) == (
        "a.csv: rows with a label that is NaN or infinite in 'score' (rows 4, 31)\n"
        f'  found: "{spelling}"\n'
        "  expected: a finite number such as 3 or 0.5\n"
        "  do: write a number into these rows, or leave them out with --set data.on_bad_rows=drop"
    )
    examples = load(tmp_path / "a.csv", tmp_path / "spool", task, on_bad_rows="drop")
    assert examples.labels.kind == "regression"
    assert examples.counts["used"] == 38
    assert np.isfinite(np.concatenate([part.labels for part in examples.parts.values()])).all()


def test_a_number_too_large_to_learn_is_said_by_row(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "score": "3.9e301" if i == 3 else -2e18 if i == 30 else i / 7} for i in range(40)]
    assert message(rows, tmp_path) == (
        "the data: rows with a label beyond 1e18 in 'score' (rows 4, 31)\n"
        '  found: "3.9e301"\n'
        "  expected: numbers whose squares fit into 32 bits\n"
        f"  do: another unit or logarithms for the whole column, {MEND}"
    )
    examples = load(rows, tmp_path, on_bad_rows="drop")
    assert np.isfinite(np.concatenate([part.labels for part in examples.parts.values()]) ** 2).all()


def test_nan_is_a_gap_among_numbers_and_a_class_among_words(tmp_path: Path) -> None:
    def label(names: list[str]) -> list[dict[str, Any]]:
        return [{"text": f"text {i}", "label": names[i % len(names)]} for i in range(60)]

    assert "rows with a label that is NaN or infinite in 'label' (20 rows: 3, " in message(
        label(["0", "1", "nan"]), tmp_path / "a"
    )
    examples = load(label(["0", "1", "nan"]), tmp_path / "b", on_bad_rows="drop")
    assert examples.labels.names == ("0", "1")
    assert load(label(["nan", "naan", "pita"]), tmp_path / "c").labels.names == ("naan", "nan", "pita")


def test_drop_leaves_bad_rows_out_and_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*BAD, *make_rows(20)]) + "{oops\n")
    examples = load(path, tmp_path / "a", on_bad_rows="drop")
    assert examples.counts == {
        "read": 26,
        "used": 20,
        "dropped": {
            "rows that are not valid JSON": {"count": 1, "rows": {"all": [26]}},
            "rows with no text": {"count": 2, "rows": {"all": [1, 2]}},
            "rows with no label": {"count": 1, "rows": {"all": [3]}},
            "rows with a label that is a list or an object": {"count": 1, "rows": {"all": [4]}},
            "rows with a text that is a number, a list or an object": {"count": 1, "rows": {"all": [5]}},
        },
    }
    assert any(note.startswith("2 rows dropped: rows with no text (rows ") for note in examples.notes)
    used = sorted(number for part in examples.parts.values() for number in part.row_numbers.tolist())
    assert used == list(range(6, 26))
    clean = load(make_rows(20), tmp_path / "b")
    assert clean.data_hash == examples.data_hash


def test_a_class_whose_rows_were_all_dropped_is_no_class(tmp_path: Path) -> None:
    examples = load([*make_rows(20), {"text": " ", "label": "gone"}], tmp_path, on_bad_rows="drop")
    assert examples.labels.names == ("neg", "pos")
    assert examples.counts["dropped"] == {"rows with no text": {"count": 1, "rows": {"all": [21]}}}


def test_structural_problems_come_with_those_of_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\nx\n" + "".join(f"text {i},one\n" for i in range(20)))
    found = message(path, tmp_path / "spool")
    assert found.startswith("2 problems\n1. a.csv: rows whose number of fields differs from the header's (row 1)\n")
    assert "\n2. a.csv: the label column 'label' holds one class only\n" in found


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"text": " ", "label": "ab"[i % 2]} for i in range(20)],
         "the data: all texts are empty\n"
         "  found: 20 rows with no text\n"
         "  expected: rows with a text and a label\n"
         "  do: --text-column NAME or --label-column NAME"),
        (make_rows(1),
         "the data: the label column 'label' holds one class only\n"
         "  found: 'pos' in all rows\n"
         "  expected: two classes or more\n"
         "  do: --label-column NAME for another column, or add other classes"),
        (make_rows(2),
         "the data: too few rows to train and to test on\n"
         "  found: 2 rows\n"
         "  expected: at least 8 rows, and better some hundreds\n"
         "  do: add rows"),
        (make_rows(7),
         "the data: too few rows to train and to test on\n"
         "  found: 7 rows\n"
         "  expected: at least 8 rows, and better some hundreds\n"
         "  do: add rows"),
        ([{"text": f"text {i}", "label": f"class {i // 2}"} for i in range(40)],
         "the data: too few rows for its classes\n"
         "  found: 28 rows to train on for 20 classes\n"
         "  expected: at least 2 rows a class on average\n"
         "  do: add rows, or join classes; --task text-regression where the labels are numbers"),
    ],
)  # fmt: skip
def test_data_that_is_too_little(tmp_path: Path, rows: list[dict[str, Any]], expected: str) -> None:
    assert message(rows, tmp_path, on_bad_rows="drop") == expected


def test_more_classes_than_memory_can_hold_are_refused(tmp_path: Path) -> None:
    rows = [{"text": f"text {number}", "label": f"class {number // 2}"} for number in range(12_000)]
    assert message(rows, tmp_path) == (
        "the data: too many classes\n  found: 6,000 different labels\n"
        "  expected: at most 5,000, whose table of confusions memory can hold\n"
        "  do: join classes; --task text-regression where the labels are numbers"
    )


def test_hash_follows_the_rows_used_and_nothing_else(tmp_path: Path) -> None:
    rows = make_rows(40)
    known = load(rows, tmp_path / "a").data_hash
    assert load([{**row, "id": 3} for row in rows], tmp_path / "b", seed=1).data_hash == known
    assert load([*rows[:-1], {**rows[-1], "label": "pos"}], tmp_path / "c").data_hash != known
    assert load([*rows[:-1], {**rows[-1], "text": "Text number 39"}], tmp_path / "d").data_hash != known
    assert load(rows[::-1], tmp_path / "e").data_hash != known


def test_equal_texts_stay_on_one_side(tmp_path: Path) -> None:
    rows = make_rows(40) + [{**row, "text": row["text"].upper() + " "} for row in make_rows(40)]
    examples = load(rows, tmp_path)
    sides = [{text.strip().lower() for text in list_texts(part)} for part in examples.parts.values()]
    assert sum(map(len, sides)) == 40


def test_parts_need_texts_of_their_own(tmp_path: Path) -> None:
    rows = [{"text": f"text {i % 2}", "label": ("pos", "neg")[i % 2]} for i in range(60)]
    assert message(rows, tmp_path) == (
        "the data: too few different texts to train and to test on\n  found: 2 different texts in 60 rows\n"
        "  expected: one for each part at least, since rows with the same text stay on one side\n"
        "  do: add rows, or give a folder with train.*, validation.* and test.*"
    )


@pytest.mark.parametrize(("separator", "label"), [("|", "film|good"), (",", "film, good")])
def test_cells_of_several_labels_are_told(separator: str, label: str, tmp_path: Path) -> None:
    labels = ["film", "good", label, label.replace("good", "bad"), "bad"]
    rows = [{"text": f"text {i}", "label": labels[i % 5]} for i in range(60)]
    notes = load(rows, tmp_path).notes
    told = f"classes such as {labels[3]!r} look like several labels of one row; --label-separator '{separator}'"
    assert any(note.startswith(told) for note in notes)
    places = ["New York, NY", "Austin, TX", "Boston, MA"]
    rows = [{"text": f"text {i}", "label": places[i % 3]} for i in range(60)]
    assert not any("look like several labels" in note for note in load(rows, tmp_path / "places").notes)


def test_a_second_text_is_told(tmp_path: Path) -> None:
    rows = [
        {"title": f"a title of some words {i}", "body": f"a body of some words {i}", "label": "ab"[i % 2]}
        for i in range(40)
    ]
    told = "'title' holds texts, too, and isn't read; --text-pair-column title reads both"
    assert told in load(rows, tmp_path / "one").notes
    both = load(rows, tmp_path / "both", text_column="body", text_pair_column="title")
    assert not any("isn't read" in note for note in both.notes)


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        (lambda i: f"{i}%", "write 0 for 0%"),
        (lambda i: f"${2 * i},131.50", "write 0131.50 for $0,131.50"),
        (lambda i: f"{i},5", "write 0.65 for 0,65"),
    ],
)
def test_numbers_as_people_write_them(labels: Any, advice: str, tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": labels(i)} for i in range(60)]
    for task in ("auto", "text-regression"):
        assert advice in message(rows, tmp_path / task, task)


def test_columns_of_marks_are_explained(tmp_path: Path) -> None:
    rows = [{"text": f"a text of words {i}", "good": i % 2, "film": i % 3 % 2, "long": i % 5 % 2} for i in range(40)]
    assert "if these mark labels of which a row may have several" in message(rows, tmp_path)


def test_a_number_that_is_not_finite_is_told_once(tmp_path: Path) -> None:
    """And not as a missing label, too; one that is missing is."""
    rows = [{"text": f"text {i}", "label": i + 0.5} for i in range(30)]
    rows[4]["label"], rows[6]["label"] = float("inf"), None
    with pytest.raises(DataError) as caught:
        load(rows, tmp_path)
    assert [list(problem.rows) for problem in caught.value.problems] == [[5], [7]]
    rows[6]["label"] = 1.0
    with pytest.raises(DataError, match="a number that is not finite") as caught:
        load(rows, tmp_path)
    assert len(caught.value.problems) == 1


def test_fractions_that_leave_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(make_rows(40), tmp_path, validation_fraction=0.4, test_fraction=0.6)
    assert str(caught.value) == (
        "data.validation_fraction and data.test_fraction leave too little to train on\n"
        "  found: 0.4 + 0.6 = 1 of the rows\n"
        "  expected: at most 0.95 together\n"
        "  do: --set data.test_fraction=0.2"
    )


def measure_peak_bytes(rows: int, folder: Path) -> int:
    """The most that Python and numpy hold at once while rows are loaded and their texts gone through."""
    folder.mkdir()
    lines = [f"a text of no great length {i},{'abcdefgh'[i % 8]}\n" for i in range(rows)]
    (folder / "rows.csv").write_text("text,label\n" + "".join(lines))
    del lines
    tables = read_parts(folder / "rows.csv", folder)
    tracemalloc.start()
    try:
        examples = load_examples("rows.csv", DataConfig(), "auto", 42, tables)
        assert sum(len(batch) for part in examples.parts.values() for batch in part.texts()) == rows
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_row_costs_few_bytes_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts stay on disk: what grows with the rows are some arrays of numbers, eight bytes a row or fewer each."""
    monkeypatch.setattr(spool, "ROWS_MOST", 256)  # batches of one size, however few rows there are
    few, many = 2_000, 14_000
    growth = measure_peak_bytes(many, tmp_path / "many") - measure_peak_bytes(few, tmp_path / "few")
    assert growth / (many - few) < 110
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert ".arrow" not in maps.read_text(), "pages of a mapped file stay in memory"


@pytest.mark.parametrize("on_bad_rows", ["fail", "drop"])
def test_a_part_without_labels_is_told_to_go(on_bad_rows: str, tmp_path: Path) -> None:
    parts = {"train": make_rows(40), "test": [{"text": f"new {i}", "label": None} for i in range(5)]}
    assert message(parts, tmp_path, on_bad_rows=on_bad_rows) == (
        "the data, part 'test': no row of the test part has a label\n"
        "  found: 5 rows without\n"
        "  expected: a label in each row\n"
        "  do: take this part away, and one is carved out of the training rows"
    )


def test_a_part_without_the_column_of_labels_is_told_to_go(tmp_path: Path) -> None:
    said = message({"train": make_rows(40), "test": [{"text": "new"}]}, tmp_path)
    assert said.startswith("the data, part 'test' has no column 'label'")
    assert said.endswith(
        "rename a column to 'label'; or take this part away, and one is carved out of the training rows"
    )


def test_columns_that_say_which_rows_are_meant_are_told(tmp_path: Path) -> None:
    rows = make_rows(40)
    for number, row in enumerate(rows):
        row |= {"split": "test" if number % 4 == 0 else "Train", "answer": "accept", "kind": "train"}
    rows[3]["answer"], rows[4]["answer"] = "reject", "Ignore "
    told = load(rows, tmp_path).notes
    assert "the column 'split' names parts and isn't read: write each of them as a file of its own" in told
    assert "learned from, too: 2 rows that 'answer' says to leave out" in told
    assert not any("'kind'" in note for note in told)


def test_several_labels_in_a_cell_are_told_how_to_be_parted(tmp_path: Path) -> None:
    rows = [{"text": f"text number {i}", "label": f"a{i % 20}|b{i % 7}"} for i in range(40)]
    assert message(rows, tmp_path).endswith(
        "  do: --label-separator '|' if a cell names several labels, or join classes; --task text-regression where the"
        " labels are numbers"
    )


def test_many_combinations_of_labels_are_told_how_to_be_parted(tmp_path: Path) -> None:
    rows = [{"text": f"text number {i}", "label": f"a{i}|b{i % 7}"} for i in range(60)]
    assert "do: --label-separator '|' if a cell names several labels; --label-column NAME" in message(rows, tmp_path)


@pytest.mark.parametrize("value", [{"a": 1.0, "b": 0.0}, [{"start": 0, "end": 3, "labels": ["a"]}]])
def test_objects_are_no_labels(value: Any, tmp_path: Path) -> None:
    rows = [{"text": f"text number {i}", "label": value} for i in range(40)]
    said = message(rows, tmp_path)
    assert said.startswith("the data: the label column 'label' holds objects")
    assert "write what is meant of 'label' as a column of its own" in said


def test_a_text_column_of_numbers_is_not_among_those_to_name(tmp_path: Path) -> None:
    rows = [{"text": f"text number {i}", "label": "ab"[i % 2], "stars": i} for i in range(40)]
    assert message(rows, tmp_path, text_column="stars").endswith("do: --text-column NAME, one of: text, label")


def test_a_row_without_any_of_the_labels_can_be_written(tmp_path: Path) -> None:
    rows = [{"text": f"text number {i}", "label": ("a|b", "b|c", "a", "")[i % 4]} for i in range(40)]
    assert "do: write '|' alone as the label of a row that has none of them; " in message(
        rows, tmp_path, label_separator="|"
    )
    written = [{**row, "label": row["label"] or "|"} for row in rows]
    assert not load(written, tmp_path, label_separator="|").parts["train"].labels.sum(axis=1).all()


@pytest.mark.parametrize("column", ["text", "note"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "rows"])
def test_a_text_that_fills_the_memory_is_refused_where_it_is_read(
    column: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("afina.data.cells.MOST_CHARACTERS", 5000)
    rows = make_rows(20, note="short")
    rows[6][column] = "word " * 1001
    source: Any = rows
    if form == "csv":
        pd.DataFrame(rows).to_csv(source := tmp_path / "a.csv", index=False)
    elif form == "jsonl":
        (source := tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    settings = {"text_column": "text", "label_column": "label"}
    if column == "note":  # which nobody reads
        assert load(source, tmp_path / "spool", **settings).counts["used"] == 20
        return
    found = message(source, tmp_path / "spool", **settings)
    assert "rows with a text of more than 5 million characters in 'text' (row 7)\n" in found
    assert "expected: shorter texts: split a long one into rows\n" in found
    assert load(source, tmp_path / "again", **settings, on_bad_rows="drop").counts["used"] == 19
