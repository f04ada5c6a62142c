"""From a file of tagged words to parts: which columns are taken, what is left out and told, and what stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afina.config.run import DataConfig
from afina.data.examples import Examples
from afina.data.read import read_parts
from afina.data.tagged_columns import find_tagged_columns
from afina.data.tagged_rows import TaggedPart, load_tagged
from afina.errors import DataError
from afina.testing.data import make_rows, make_tagged

MEND = "mend these rows, or leave them out with --set data.on_bad_rows=drop"


def load(source: Any, folder: Path, **settings: Any) -> Examples:
    return load_tagged(source, DataConfig(**settings), 42, read_parts(source, folder))


def choose(rows: list[dict[str, Any]], folder: Path, **settings: Any) -> tuple[str, str] | None:
    table = read_parts(rows, folder)["all"]
    found = find_tagged_columns(table, DataConfig(**settings))
    return (found.text, found.label) if found else None


def rename(rows: list[dict[str, Any]], **names: str) -> list[dict[str, Any]]:
    return [{names.get(key, key): value for key, value in row.items()} for row in rows]


def test_usual_names_are_known(tmp_path: Path) -> None:
    rows = make_tagged("words", 12)
    assert choose(rows, tmp_path / "a") == ("tokens", "tags")
    assert choose(rename(rows, tokens="words", tags="ner_tags"), tmp_path / "b") == ("words", "ner_tags")
    assert choose(make_tagged("plain", 12), tmp_path / "c") == ("tokens", "pos_tags")
    assert choose(make_tagged("spans", 12), tmp_path / "d") == ("text", "entities")
    both = [{**row, "ner_tags": row["tags"]} for row in rows]
    assert choose(both, tmp_path / "e") == ("tokens", "ner_tags")


def test_other_names_are_given(tmp_path: Path) -> None:
    rows = rename(make_tagged("words", 12), tokens="a", tags="b")
    assert choose(rows, tmp_path / "a") is None
    assert choose(rows, tmp_path / "b", text_column="a", label_column="b") == ("a", "b")


def test_texts_with_labels_are_something_else(tmp_path: Path) -> None:
    assert choose(make_rows("multiclass", 12), tmp_path / "a") is None
    assert choose(rename(make_rows("multilabel", 12), label="tags"), tmp_path / "b") is None
    assert choose(make_rows("pairs", 12), tmp_path / "c") is None
    few = [{**row, "label": row["label"] if i == 0 else []} for i, row in enumerate(make_rows("multilabel", 12))]
    assert choose(few, tmp_path / "d") is None
    assert choose([{"text": "a text", "label": None}] * 12, tmp_path / "e") is None
    rare = [{**row, "entities": row["entities"] if i == 3 else []} for i, row in enumerate(make_tagged("spans", 12))]
    assert choose(rare, tmp_path / "f") == ("text", "entities")


def test_one_table_gives_three_parts(tmp_path: Path) -> None:
    rows = make_tagged("words", 60)
    examples = load(rows, tmp_path)
    assert {name: len(part) for name, part in examples.parts.items()} == {"train": 42, "validation": 6, "test": 12}
    assert examples.labels.kind == "entities"
    for part in examples.parts.values():
        assert isinstance(part, TaggedPart)
        words = [row for batch in part.words(7) for row in batch]
        assert words == [rows[number - 1]["tokens"] for number in part.row_numbers]
        tags = [[examples.labels.names[tag] for tag in part.tags.row(i)] for i in range(len(part))]
        assert tags == [rows[number - 1]["tags"] for number in part.row_numbers]
        assert [text for batch in part.texts() for text in batch] == [" ".join(row) for row in words]


def test_bad_rows_are_named_all_at_once(tmp_path: Path) -> None:
    rows = make_tagged("words", 20)
    rows[2]["tags"] = rows[2]["tags"][:-1]
    rows[4]["tokens"] = []
    rows[5]["tags"] = [None] * len(rows[5]["tokens"])
    with pytest.raises(DataError) as caught:
        load(rows, tmp_path / "a")
    words = len(rows[2]["tokens"])
    found = [(p.what.rpartition(": ")[2], p.found, list(p.rows)) for p in caught.value.problems]
    assert found == [
        ("rows with more words than tags, or fewer in 'tags'", f"{words} words and {words - 1} tags", [3]),
        ("rows with no words in 'tokens'", "[]", [5]),
        ("rows with a tag that is empty in 'tags'", json.dumps([None] * len(rows[5]["tokens"]))[:60], [6]),
    ]
    assert {p.remedy for p in caught.value.problems} == {MEND}
    examples = load(rows, tmp_path / "b", on_bad_rows="drop")
    assert examples.counts["used"] == 17
    assert examples.notes[0] == "1 row dropped: rows with more words than tags, or fewer (row 3)"


def test_bad_entities_are_shown_how_to_write_them(tmp_path: Path) -> None:
    rows = make_tagged("spans", 20)
    rows[1]["entities"] = "PER"
    rows[3]["entities"] = [{"start": 0, "end": 10_000, "label": "PER"}]
    rows[6]["entities"] = [{"start": 0, "end": 3, "label": "PER"}, {"start": 0, "end": 3, "label": "LOC"}]
    with pytest.raises(DataError) as caught:
        load(rows, tmp_path)
    assert [list(p.rows) for p in caught.value.problems] == [[2], [4], [7]]
    form = 'a list such as [{"start": 0, "end": 3, "label": "PER"}], in characters of the text'
    assert [form in p.expected for p in caught.value.problems] == [True, True, False]


def test_a_tag_that_only_the_test_part_has_is_a_bad_row(tmp_path: Path) -> None:
    train, test = make_tagged("words", 20), make_tagged("words", 5, seed=1)
    test[1]["tags"][0] = "B-planet"
    with pytest.raises(DataError) as caught:
        load({"train": train, "test": test}, tmp_path)
    (problem,) = caught.value.problems
    assert "a tag that the training part doesn't have" in problem.what
    assert problem.found == "'B-planet'"
    assert list(problem.rows) == [2]
    assert problem.expected.startswith("tags that stand in the training part too: B-kitchen, B-music")


def test_a_widened_span_is_told(tmp_path: Path) -> None:
    rows = make_tagged("spans", 20)
    row = next(i for i, row in enumerate(rows) if row["entities"][0]["end"] < len(row["text"]))
    rows[row]["entities"][0]["end"] -= 1
    notes = load(rows, tmp_path).notes
    assert f"all: 1 row with an entity that cut a word, widened to the whole word: rows {row + 1}" in notes


def test_tags_that_are_all_alike_are_refused(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", str(i)], "tags": ["O", "O"]} for i in range(20)]
    with pytest.raises(DataError, match="are all the same\n  found: 'O'\n"):
        load(rows, tmp_path)


def test_where_only_rows_without_entities_are_left_the_others_are_named(tmp_path: Path) -> None:
    """Another column would not help."""
    inner, outer = {"start": 0, "end": 1, "label": "a"}, {"start": 0, "end": 3, "label": "b"}
    rows = [{"text": f"a b {i}", "entities": [inner, outer] if i % 2 else []} for i in range(20)]
    with pytest.raises(DataError) as caught:
        load(rows, tmp_path, on_bad_rows="drop")
    assert "found: 'O' in the rows that are left: 10 rows can't be used" in str(caught.value)
    assert "do: mend the rows that can't be used" in str(caught.value)


def test_no_columns_are_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no columns of words and their tags were found"):
        load(make_rows("multiclass", 20), tmp_path)


def test_whole_numbers_are_plain_tags(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b", str(i)], "ner_tags": [0, 10, i % 3]} for i in range(20)]
    examples = load(rows, tmp_path)
    assert (examples.labels.kind, examples.labels.names) == ("tags", ("0", "1", "2", "10"))
    assert np.unique(examples.parts["train"].tags.tags).tolist() == [0, 1, 2, 3]  # type: ignore[attr-defined]
