"""What pandas and the package `datasets` write by default is read as it was meant."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest

from afina.data import text_formats
from afina.data.bad_rows import BadRows
from afina.data.doctor.rewrite import number_class, rewrite_file
from afina.data.read import open_file, read_parts
from afina.errors import DataError

TEXTS = ["a kettle", "a knife", "a spoon", "a fork"]


def make_dataset(first: int = 0) -> datasets.Dataset:
    features = datasets.Features({
        "text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"]),
        "tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B-X"])),
    })  # fmt: skip
    rows = {"text": TEXTS[first:], "label": [0, 1, -1, 1][first:], "tags": [[0, 1], [0], [], [1]][first:]}
    return datasets.Dataset.from_dict(rows, features=features)


NAMED = [
    {"text": "a kettle", "label": "neg", "tags": ["O", "B-X"]}, {"text": "a knife", "label": "pos", "tags": ["O"]},
    {"text": "a spoon", "label": None, "tags": []}, {"text": "a fork", "label": "pos", "tags": ["B-X"]},
]  # fmt: skip


def read(source: Any, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of each part."""
    found = {}
    for part, table in read_parts(source, folder / "spool").items():
        cells = {name: list(table.column(name)) for name in table.names}
        found[part] = [dict(zip(cells, values, strict=True)) for values in zip(*cells.values(), strict=True)]
    return found


def test_an_index_without_a_name_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(",text,label\n7,a kettle,neg\n3,a knife,pos\n")
    (table,) = read_parts(path, tmp_path / "spool").values()
    assert table.names == ("text", "label")
    assert table.notes == ("rows.csv: the first column has numbers and no name, as an index: left out",)
    assert [row["text"] for row in read(path, tmp_path)["all"]] == ["a kettle", "a knife"]
    rewrite_file(open_file(path), tmp_path / "copy.csv", lambda number, row: {})
    with (tmp_path / "copy.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["text", "label"], ["a kettle", "neg"], ["a knife", "pos"]]


@pytest.mark.parametrize("header", [",text,label", "text,,label", ",,label"])
def test_other_columns_without_a_name_are_refused(header: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{header}\na word,a kettle,neg\n")
    with pytest.raises(DataError, match="the header has columns without a name"):
        read(path, tmp_path)


def test_a_first_row_that_no_csv_has_is_said_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_formats, "FIELD_CHARACTERS", 100)
    path = tmp_path / "rows.csv"
    path.write_text(f',text,label\n7,"{"a" * 200}",neg\n')
    with pytest.raises(DataError):
        read(path, tmp_path)


def test_classes_of_a_parquet_file_have_their_names(tmp_path: Path) -> None:
    make_dataset().to_parquet(tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet", tmp_path)["all"] == NAMED
    assert read(make_dataset(), tmp_path)["all"] == NAMED


@pytest.mark.parametrize("described", [b"no json", b"[]", b'{"info": {"features": {"label": 3}}}'])
def test_a_description_of_another_form_is_passed_over(described: bytes, tmp_path: Path) -> None:
    make_dataset().to_parquet(tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet").replace_schema_metadata({b"huggingface": described})
    pq.write_table(table, tmp_path / "odd.parquet")
    assert [row["label"] for row in read(tmp_path / "odd.parquet", tmp_path)["all"]] == [0, 1, -1, 1]


def test_a_copy_of_such_a_file_keeps_its_numbers(tmp_path: Path) -> None:
    make_dataset().to_parquet(tmp_path / "rows.parquet")
    changes: dict[int, dict[str, Any]] = {1: {"label": "pos"}, 2: {"label": "other", "tags": ["B-X"]}}
    rewrite_file(open_file(tmp_path / "rows.parquet"), tmp_path / "copy.parquet", lambda n, row: changes.get(n, {}))
    copy = pq.read_table(tmp_path / "copy.parquet").to_pylist()
    assert [(row["label"], row["tags"]) for row in copy] == [(1, [0, 1]), (1, [1]), (-1, []), (1, [1])]
    assert number_class("spoon", "fork", None) == "spoon"


@pytest.mark.parametrize("inside", ["", "data"])
def test_files_are_found_by_the_names_of_the_hub(inside: str, tmp_path: Path) -> None:
    folder = tmp_path / "set" / inside
    folder.mkdir(parents=True)
    make_dataset().shard(2, 0, contiguous=True).to_parquet(folder / "train-00000-of-00002.parquet")
    make_dataset().shard(2, 1, contiguous=True).to_parquet(folder / "train-00001-of-00002.parquet")
    make_dataset(2).to_parquet(folder / "test-00000-of-00001.parquet")
    (tmp_path / "set" / "README.md").write_text("a card")
    assert read(tmp_path / "set", tmp_path) == {"train": NAMED, "test": NAMED[2:]}
    (folder / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(DataError, match="holds 1 file for the part 'train', and not all of its shards"):
        read(tmp_path / "set", tmp_path)


def test_what_save_to_disk_writes_is_read(tmp_path: Path) -> None:
    make_dataset().save_to_disk(tmp_path / "one")
    assert read(tmp_path / "one", tmp_path) == {"all": NAMED}
    datasets.DatasetDict({"train": make_dataset(), "validation": make_dataset(2)}).save_to_disk(tmp_path / "parts")
    assert read(tmp_path / "parts", tmp_path) == {"train": NAMED, "validation": NAMED[2:]}
    (tmp_path / "one" / "state.json").write_text(json.dumps({}))
    with pytest.raises(DataError, match="can't be read as what save_to_disk writes"):
        read(tmp_path / "one", tmp_path)


def test_rows_of_a_table_have_their_notes(tmp_path: Path) -> None:
    bad_rows = BadRows("rows")
    make_dataset().to_parquet(tmp_path / "rows.parquet")
    list(open_file(tmp_path / "rows.parquet").rows(bad_rows))
    assert bad_rows.notes[0] == "rows.parquet: numbers in 'label' read as the classes they stand for: neg, pos"
