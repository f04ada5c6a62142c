"""The cleaned copy of tagged words: no word loses its tag, no entity its place."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import afina
from afina.data.columns import ColumnChoice
from afina.data.doctor.fix_tags import TaggedCleaner, mend_text
from afina.testing.data import make_tagged

Rows = list[dict[str, Any]]
GOOD = make_tagged("words", 24)
SPANS = make_tagged("spans", 24)
BAD: Rows = [
    {"tokens": ["cafÃ©", "\x07", "bell\x07"], "tags": ["B-music", "O", "O"]},
    {"tokens": ["torn", "apart"], "tags": ["O", "O"]},
    {"tokens": ["Torn", "apart"], "tags": ["B-music", "O"]},
    {"tokens": ["a", "drum"], "tags": ["O", "B-Music "]},
    {"tokens": [], "tags": []},
    {"tokens": ["no", "tags"], "tags": None},
    {"tokens": ["one", "too", "few"], "tags": ["O", "O"]},
    GOOD[0],
]
# What is left of them: the first, the spelling of the fourth, and the row that only a person can mend.
KEPT: Rows = [
    {"tokens": ["café", "\x07", "bell"], "tags": ["B-music", "O", "O"]},
    {"tokens": ["a", "drum"], "tags": ["O", "B-music"]},
    {"tokens": ["one", "too", "few"], "tags": ["O", "O"]},
]
RULES = {"characters": 1, "conflicting-labels": 2, "label-variant": 1, "empty-row": 2, "duplicate-row": 1}


def write_lines(rows: Rows, path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_lines(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def fix(source: Path) -> Any:
    return afina.check(source, task="token-classification", fix=source.with_name("copy" + source.suffix)).fixed


def test_lists_of_words(tmp_path: Path) -> None:
    fixed = fix(write_lines([*GOOD, *BAD], tmp_path / "a.jsonl"))
    assert read_lines(tmp_path / "copy.jsonl") == [*GOOD, *KEPT]
    assert fixed["rules"] == RULES
    again = afina.check(tmp_path / "copy.jsonl", task="token-classification")
    assert not {"conflicting-labels", "tag-variants", "duplicate-rows", "mojibake"} & {f.code for f in again.findings}


def test_lists_that_are_written_as_text(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "tokens", "tags"])
        writer.writeheader()
        for number, row in enumerate([*GOOD, *BAD[:4]]):
            writer.writerow({"id": number, **{name: json.dumps(cell) for name, cell in row.items()}})
    fix(tmp_path / "a.csv")
    with (tmp_path / "copy.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [int(row["id"]) for row in found] == [*range(len(GOOD)), len(GOOD), len(GOOD) + 3]
    assert [{name: json.loads(row[name]) for name in ("tokens", "tags")} for row in found] == [*GOOD, *KEPT[:2]]


def test_lists_in_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([*GOOD, *BAD]), tmp_path / "a.parquet")
    fix(tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "copy.parquet").to_pylist() == [*GOOD, *KEPT]


def test_entities_move_with_the_text_before_them(tmp_path: Path) -> None:
    text = "\x07cafÃ© by Bach\x07, and Brahms"
    entities = [
        {"start": text.index("Bach"), "end": text.index("Bach") + 5, "label": "music", "id": 7},
        {"start": text.index("Brahms"), "end": len(text), "label": "Music"},
    ]
    pairs = {"text": "Ana sings Â£5", "entities": [[0, 3, "music"], [10, 13, "music"]]}
    fix(write_lines([*SPANS, {"text": text, "entities": entities}, pairs], tmp_path / "a.jsonl"))
    found, listed = read_lines(tmp_path / "copy.jsonl")[-2:]
    assert found["text"] == "café by Bach, and Brahms"
    marked = [(found["text"][each["start"] : each["end"]], each["label"]) for each in found["entities"]]
    assert marked == [("Bach", "music"), ("Brahms", "music")]
    assert found["entities"][0]["id"] == 7
    assert listed == {"text": "Ana sings £5", "entities": [[0, 3, "music"], [10, 12, "music"]]}


def test_a_border_within_a_broken_character_leaves_the_text_alone() -> None:
    text = "cafÃ© bar"
    assert mend_text(text, [[0, 4, "place"]]) == (text, {0: 0, 4: 4, len(text): len(text)})
    assert mend_text("\x07 x", [[0, 1, "place"]])[0] == "\x07 x", "the entity would be empty"
    cleaner = TaggedCleaner(ColumnChoice("text", None, "entities", "token-classification", False), {})
    assert cleaner.clean({"text": text, "entities": [[0, 4, "place"]]}) == {}
    assert cleaner.clean({"text": text, "entities": [[0, 40, "place"]]}) == {}, "nobody knows what it means"


PIECES = st.sampled_from(["good", "cafÃ©", "it\x92s", "\x07", "ñandú", "Ã", "Â£", "é…", " ", "x"])


@given(st.lists(PIECES, min_size=1, max_size=6), st.data())
def test_what_an_entity_holds_is_cleaned_as_if_it_stood_alone(pieces: list[str], data: st.DataObject) -> None:
    from afina.data.doctor.characters import clean_text

    text = "".join(pieces)
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    mended, places = mend_text(text, [[start, end, "x"]])
    assert mended in (text, clean_text(text))
    held = mended[places[start] : places[end]]
    assert held == (text[start:end] if mended == text else clean_text(text[start:end]))
    moved = [[places[start], places[end], "x"]]
    assert mend_text(mended, moved)[0] in (mended, clean_text(mended))


@pytest.mark.parametrize("form", ["words", "plain", "spans"])
def test_clean_rows_stay_as_they_are(form: Any, tmp_path: Path) -> None:
    source = write_lines(make_tagged(form, 30), tmp_path / "a.jsonl")
    assert fix(source)["rules"] == {}
    assert (tmp_path / "copy.jsonl").read_bytes().decode("unicode_escape") == source.read_bytes().decode(
        "unicode_escape"
    )
