"""Readers: what a file holds comes back as it stood, and what is wrong with it is said by row."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.data import spool
from afina.data.part_files import find_part_files
from afina.data.read import find_delimiter, read_parts
from afina.data.text_formats import Delimiter
from afina.errors import AfinaError, DataError

MEND = "mend these rows, or leave them out with --set data.on_bad_rows=drop"
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Any, folder: Path) -> Any:
    return read_parts(path, folder / "spool")["all"]


def list_columns(table: Any) -> dict[str, list[Any]]:
    return {name: list(table.column(name)) for name in table.names}


def message(path: Any, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_parts(path, folder / "spool")
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label\nhola,1\nadiós,2\n"),
        ("bom.csv", b"\xef\xbb\xbftext,label\nhola,1\nadi\xc3\xb3s,2\n"),
        ("crlf.csv", "text,label\r\nhola,1\r\nadiós,2\r\n"),
        ("cr.csv", "text,label\rhola,1\radiós,2\r"),
        ("noend.csv", "text,label\nhola,1\nadiós,2"),
        ("a.tsv", "text\tlabel\nhola\t1\nadiós\t2\n"),
        ("a.jsonl", '{"text":"hola","label":"1"}\n{"text":"adiós","label":"2"}'),
        ("bom.jsonl", b'\xef\xbb\xbf{"text":"hola","label":"1"}\r\n{"text":"adi\xc3\xb3s","label":"2"}\r\n'),
        ("a.json", '[{"text":"hola","label":"1"},\n {"text":"adi\\u00f3s","label":"2"}]'),
    ],
)
def test_formats_agree(tmp_path: Path, name: str, content: bytes | str) -> None:
    table = read(write(tmp_path, name, content), tmp_path)
    assert list_columns(table) == {"text": ["hola", "adiós"], "label": ["1", "2"]}
    assert table.kinds == {"text": "text", "label": "text"}
    assert (table.row_count, table.read_count, table.problems, table.notes) == (2, 2, (), ())
    assert table.row_numbers.tolist() == [1, 2]


@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_csv_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("csv")
    with (folder / "a.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(("text", "label"))
        writer.writerows(rows)
    columns = list_columns(read(folder / "a.csv", folder))
    assert columns == {"text": [a or None for a, _ in rows], "label": [b or None for _, b in rows]}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@given(rows=st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_json_values_come_back_as_they_stood(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("json")
    (folder / "a.json").write_text(json.dumps(rows))
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("a.json", "a.jsonl"):
        table = read(folder / name, folder)
        for column in table.names:
            expected = [row.get(column) for row in rows]
            found = list(table.column(column))
            assert found == expected
            if table.kinds[column] != "decimal":
                assert list(map(type, found)) == list(map(type, expected))


@pytest.mark.parametrize(
    ("late", "kind", "values"),
    [
        ("2.5", "decimal", [1, 2.5]),
        ('"x"', "json", [1, "x"]),
        ("true", "json", [1, True]),
        ("[1]", "json", [1, [1]]),
        ("99999999999999999999", "json", [1, 99999999999999999999]),
        ("null", "integer", [1, None]),
    ],
)
def test_kind_widens_when_a_late_row_contradicts(tmp_path: Path, late: str, kind: str, values: list[Any]) -> None:
    rows = ['{"a": 1}'] * 5000 + ['{"a": ' + late + "}"]
    table = read(write(tmp_path, "a.jsonl", "\n".join(rows)), tmp_path)
    found = list(table.column("a"))
    assert (table.kinds["a"], found[0], found[-1]) == (kind, *values)
    assert (type(found[-1]), table.row_count, table.row_numbers[-1]) == (type(values[1]), 5001, 5001)


def test_integers_that_a_float_cant_hold_keep_their_value(tmp_path: Path) -> None:
    table = read(write(tmp_path, "a.jsonl", '{"a": 9007199254740993}\n{"a": 0.5}\n'), tmp_path)
    assert list(table.column("a")) == [9007199254740993, 0.5]


def test_a_well_behaved_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    run = spool._Pass.run
    monkeypatch.setattr(spool._Pass, "run", lambda self: (passes.append(1), run(self))[1])
    read(write(tmp_path, "a.jsonl", '{"a": null, "b": 1}\n' * 5000 + '{"a": "x", "b": 2}\n'), tmp_path)
    assert len(passes) == 1
    read(write(tmp_path, "b.jsonl", '{"b": 1}\n' * 5000 + '{"b": 2, "late": 1}\n'), tmp_path)
    assert len(passes) == 3


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_take_follows_the_order_asked_for(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("take")
    table = read([{"a": f"row {i}", "b": [i]} for i in range(1000)], folder)
    indices = data.draw(st.lists(st.integers(0, 999), max_size=50))
    taken = table.take(np.array(indices, dtype=np.int64), ["b", "a"])
    assert taken == {"b": [[i] for i in indices], "a": [f"row {i}" for i in indices]}


def test_all_bad_rows_of_a_csv_are_listed_by_kind(tmp_path: Path) -> None:
    content = 'text,label\nbien,1\nniño,2\nc\nd,1,2\n"e"x,1\nf\0,1\ny,5\n'.encode("latin-1")
    table = read(write(tmp_path, "a.csv", content), tmp_path)
    assert list_columns(table) == {"text": ["bien", "y"], "label": ["1", "5"]}
    assert (table.row_numbers.tolist(), table.read_count) == ([1, 7], 7)
    path = tmp_path / "a.csv"
    assert {str(problem) for problem in table.problems} == {
        "a.csv: rows whose number of fields differs from the header's (rows 3, 4)\n"
        "  found: 1 field in 1 row, 3 fields in 1 row\n"
        "  expected: one field for each column\n"
        f"  do: {MEND}",
        "a.csv: rows with a stray quote (row 5)\n"
        "  found: on line 6 of the file: more text after a closing quote\n"
        "  expected: quotes around the whole field, and each quote inside it written twice\n"
        f"  do: {MEND}",
        "a.csv: rows with bytes that are not UTF-8 (row 2)\n"
        "  found: byte 0xf1 at offset 20; it may be Latin-1 (WINDOWS-1252)\n"
        "  expected: text in UTF-8\n"
        f"  do: if so: iconv -f WINDOWS-1252 -t UTF-8 {path} > {tmp_path / 'a.utf8.csv'}",
        "a.csv: rows with NUL characters (row 6)\n"
        "  found: in column 'text'\n"
        "  expected: text without NUL characters\n"
        f"  do: {MEND}",
    }


def test_all_bad_rows_of_a_jsonl_are_listed_by_kind(tmp_path: Path) -> None:
    lines = [
        b'{"a": "good"}',
        b'{"a": "ni\xf1o"}',
        b'{"a": ',
        b"[]",
        b'"x"',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": {"b": Infinity}}',
        b'{"\\udfff": "x"}',
    ]
    table = read(write(tmp_path, "a.jsonl", b"\n".join(lines)), tmp_path)
    assert list(table.column("a")) == ["good", None, None, None]  # gaps where a value can't be stored
    assert table.read_count == len(lines)
    ((gap,),) = table.cell_problems.values()
    assert (gap.what, list(gap.rows)) == ("a.jsonl: rows with a number that is not finite in 'a'", [6, 7, 12])
    assert table.problems_in(["a"]) == [*table.problems, gap]
    assert table.problems_in(["b"]) == list(table.problems)
    assert table.notes == ("a.jsonl: gaps in 3 rows of 'a', whose values can't be stored",)
    found = {problem.what.removeprefix("a.jsonl: rows "): list(problem.rows) for problem in table.problems}
    assert found == {
        "with bytes that are not UTF-8": [2],
        "that are not valid JSON": [3],
        "that are not JSON objects": [4, 5],
        "in which a key stands twice": [8],
        "that are nested too deeply to be read": [9],
        "with half of a surrogate pair": [10, 13],
        "with a number of too many digits": [11],
    }


def test_row_numbers_of_a_problem_are_capped_and_the_count_is_exact(tmp_path: Path) -> None:
    table = read(write(tmp_path, "a.csv", "text,label\nok,1\n" + "bad\n" * 12_000), tmp_path)
    rows = table.problems[0].rows
    assert (len(rows), len(list(rows)), rows[0], table.read_count) == (12_000, 10_000, 2, 12_001)
    assert "(12,000 rows: 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...)" in str(table.problems[0])


def test_blank_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    for name, content in (("a.csv", "t,l\na,1\n\n\nb,2\n\n"), ("a.jsonl", '{"t":1}\n\n  \n{"t":2}\n\n')):
        table = read(write(tmp_path, name, content), tmp_path)
        assert table.row_numbers.tolist() == [1, 2]
        assert table.notes == (f"{name}: 3 blank lines skipped; row numbers don't count them",)


@pytest.mark.parametrize(("mark", "plural"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_other_delimiters_are_used_and_told(tmp_path: Path, mark: str, plural: str) -> None:
    table = read(write(tmp_path, "a.csv", f'text{mark}label\n"a{mark}b"{mark}1\n'), tmp_path)
    assert list_columns(table) == {"text": [f"a{mark}b"], "label": ["1"]}
    assert table.notes == (f"a.csv: the header has no comma but {plural}, so {plural} separate its fields",)
    assert find_delimiter(tmp_path / "a.csv", ".csv") == Delimiter(mark)
    assert find_delimiter(tmp_path / "a.csv", ".tsv") is None


def test_the_delimiter_of_what_is_predicted(tmp_path: Path) -> None:
    for name, text in {"train.csv": "t,l\na,b\n", "test.csv": "t;l\na;b\n", "a.tsv": "t;u\tl\n"}.items():
        write(tmp_path, name, text)
    assert find_delimiter(tmp_path, ".csv") == Delimiter(";"), "a folder is predicted from its test part"
    assert find_delimiter(str(tmp_path / "train.csv"), ".csv") == Delimiter(",")
    assert find_delimiter(tmp_path / "a.tsv", ".tsv") == Delimiter("\t")
    for source in (tmp_path / "none.csv", [{"t": "a"}], "some/dataset"):
        assert find_delimiter(source, ".csv") is None


def test_quotes_newlines_and_huge_fields_are_data(tmp_path: Path) -> None:
    huge = "x" * 1_000_000
    table = read(write(tmp_path, "a.csv", f'text,label\n"a ""b"",\r\nc",1\n{huge},2\n'), tmp_path)
    assert list(table.column("text")) == ['a "b",\r\nc', huge]
    assert csv.field_size_limit() == 131072


def test_nul_in_json_is_kept_and_noted(tmp_path: Path) -> None:
    table = read(write(tmp_path, "a.jsonl", '{"a": "x\\u0000"}\n{"a": "y"}\n'), tmp_path)
    assert list(table.column("a")) == ["x\0", "y"]
    assert table.notes == ("a.jsonl: NUL characters kept in 1 row of 'a'",)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"", "a.csv is empty\n  expected: a file with at least one row of data"),
        ("a.csv", b"\n \n\n", "a.csv is empty\n  expected: a file with at least one row of data"),
        ("a.json", b" ", "a.json is empty\n  expected: a file with at least one row of data"),
        ("a.csv", b"a,b\n", "a.csv holds no rows of data\n  expected: at least one row with named values"),
        ("a.json", b"[]", "a.json holds no rows of data\n  expected: at least one row with named values"),
        (
            "a.csv",
            b"t,t,,x\n1,2,3,4\n",
            "2 problems\n"
            "1. a.csv: the header has columns without a name\n"
            "     found: field 3 is empty\n"
            "     expected: a name for each column\n"
            "     do: write the names into the first line (pandas: DataFrame.to_csv(..., index=False))\n"
            "2. a.csv: the header has names that stand twice\n"
            "     found: 't'\n"
            "     expected: each name once\n"
            "     do: rename one of the columns, or remove it; before a first line that is a row write one with names",
        ),
        (
            "a.csv",
            b't,l\na,1\n"b,2\nc,3\n',
            "a.csv: a quote opened in row 2 is not closed as it should be\n"
            "  found: on lines 3 to 4 of the file: the file ends inside of quotes\n"
            "  expected: quotes around the whole field, and each quote inside it written twice\n"
            "  do: look at row 2, and close the quote or remove it",
        ),
        (
            "a.csv",
            b"PK\x03\x04 and so on",
            "a.csv is not a text file\n"
            "  found: a zip archive (an Excel file is one)\n"
            "  expected: text in UTF-8, as .csv says\n"
            "  do: unpack it or export it first, or give it the suffix of what it holds",
        ),
        (
            "a.jsonl",
            b'[{"a": 1}]',
            "a.jsonl is not JSON lines\n"
            "  found: a JSON array\n"
            "  expected: one object a line\n"
            "  do: give the file the suffix .json",
        ),
        (
            "a.json",
            b'[{"a": 1}, {"a": 2',
            "a.json is not an array of JSON objects at row 2\n"
            "  found: it ends early, after character 7\n"
            "  expected: one JSON object a row\n"
            "  do: mend the file there; nothing after that place can be read",
        ),
        (
            "a.xml",
            b"a",
            "{folder}/a.xml is of no format that can be read\n"
            "  found: the suffix '.xml'\n"
            "  expected: a file with one of the suffixes .csv, .tsv, .jsonl, .json, .parquet, .txt, .conll, .bio,"
            " .iob, .iob2\n"
            "  do: convert the file, or rename it if it holds one of these formats",
        ),
    ],
)
def test_files_that_cant_be_read(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    assert message(write(tmp_path, name, content), tmp_path) == expected.replace("{folder}", str(tmp_path))


@pytest.mark.parametrize(("codec", "name"), [("utf-16", "UTF-16LE"), ("utf-16-be", "UTF-16BE"), ("utf-32", "UTF-32LE")])
def test_wide_encodings_are_named(tmp_path: Path, codec: str, name: str) -> None:
    path = write(tmp_path, "a b.csv", "text,label\nhola,1\n".encode(codec))
    if codec == "utf-16-be":
        assert "UTF-16BE" in message(path, tmp_path)
        return
    assert message(path, tmp_path) == (
        "a b.csv is not UTF-8 text\n"
        f"  found: it looks like {name}\n"
        "  expected: text in UTF-8\n"
        f"  do: iconv -f {name} -t UTF-8 '{path}' > '{tmp_path / 'a b.utf8.csv'}'"
    )


def test_quote_problem_comes_with_the_rows_found_before_it(tmp_path: Path) -> None:
    assert message(write(tmp_path, "a.csv", 't,l\na\n"b,2\nc,3\n'), tmp_path).startswith(
        "2 problems\n1. a.csv: rows whose number of fields differs from the header's (row 1)"
    )


def test_json_lines_named_json_are_read_and_told(tmp_path: Path) -> None:
    table = read(write(tmp_path, "a.json", '{"a": 1}\n{"a": 2}\n'), tmp_path)
    assert list(table.column("a")) == [1, 2]
    assert table.notes == ("a.json: read as JSON lines, since it holds one object a line",)


def test_a_json_array_larger_than_the_window(tmp_path: Path) -> None:
    rows = [{"text": "ñ" * 500_000, "i": i} for i in range(5)] + [{"text": "b", "i": i} for i in range(5, 3000)]
    table = read(write(tmp_path, "a.json", json.dumps(rows, ensure_ascii=False)), tmp_path)
    assert list(table.column("i")) == list(range(3000))
    assert len(next(table.column("text"))) == 500_000


def test_too_many_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", "".join(f'{{"k{i}": 1}}\n' for i in range(12_000)))
    assert message(path, tmp_path).startswith("a.jsonl has more than 10,000 columns\n")


def test_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, "reviews.csv", "a,b\n1,2\n")
    accepted = (
        "a file (csv, tsv, jsonl, json, parquet, txt, conll), a folder with train.*, or a data set id such as imdb"
    )
    for name in ("review.csv", "reviews.jsonl"):
        assert message(str(tmp_path / name), tmp_path) == (
            f"there is no file or folder {tmp_path / name}\n"
            "  found: files with a similar name: reviews.csv\n"
            f"  expected: {accepted}\n"
            f"  do: write {tmp_path / 'reviews.csv'}"
        )
    assert f"there is no folder {tmp_path / 'no'} either" in message(str(tmp_path / "no" / "a.csv"), tmp_path)


def test_folder_gives_parts(tmp_path: Path) -> None:
    for name in ("train.csv", "dev.jsonl", "test.tsv", "README.md", "notes.csv"):
        write(tmp_path, name, '{"text": "a"}\n' if name.endswith("jsonl") else "text\na\n")
    parts = read_parts(tmp_path, tmp_path / "spool")
    assert {part: table.source for part, table in parts.items()} == {
        "train": "train.csv",
        "validation": "dev.jsonl",
        "test": "test.tsv",
    }


def test_folder_without_train_or_with_two(tmp_path: Path) -> None:
    write(tmp_path, "test.csv", "a\n1\n")
    assert message(tmp_path, tmp_path) == (
        f"{tmp_path} holds no training part\n"
        "  found: test.csv\n"
        "  expected: a file train.* (.csv, .tsv, .jsonl, .json, .parquet, .txt, .conll, .bio, .iob, .iob2), and "
        "maybe validation.* and test.*\n"
        "  do: name the file itself, or rename it to train.*"
    )
    write(tmp_path, "train.csv", "a\n1\n")
    write(tmp_path, "train.jsonl", '{"a": 1}\n')
    assert message(tmp_path, tmp_path) == (
        f"{tmp_path} holds 2 files for the part 'train'\n"
        "  found: train.csv, train.jsonl\n"
        "  expected: one file a part, or its shards (train-00000-of-00002.jsonl, ...)\n"
        "  do: leave one of them there, or name the file itself"
    )


def test_parquet_types(tmp_path: Path) -> None:
    columns = {
        "text": pa.array(["a", None, "c"]).dictionary_encode(),
        "n": pa.array([1, 2, None], pa.int32()),
        "x": pa.array([1.5, float("nan"), 2.0]),
        "tags": pa.array([["a"], [], None]),
        "image": pa.array([b"\xff", b"", None]),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    table = read(tmp_path / "a.parquet", tmp_path)
    assert list_columns(table) == {
        "text": ["a", None, "c"],
        "n": [1, 2, None],
        "x": [1.5, None, 2.0],
        "tags": [["a"], [], None],
    }
    assert table.kinds == {"text": "text", "n": "integer", "x": "decimal", "tags": "json"}
    assert table.notes == ("a.parquet: column 'image' left out, since it holds bytes",)


def test_broken_parquet(tmp_path: Path) -> None:
    assert message(write(tmp_path, "a.parquet", b"PAR1 but no more"), tmp_path).startswith(
        "a.parquet can't be read as a parquet file\n  found: "
    )


def test_python_sequences(tmp_path: Path) -> None:
    rows = [
        {"a": np.int64(1), "b": float("nan"), "c": np.array([1, 2])},
        {"a": np.float32(0.5), "b": "x", "c": ("y",)},
        "no",
        {1: 2},
        {"a": object()},
    ]
    table = read(rows, tmp_path)
    assert list_columns(table) == {"a": [1.0, 0.5, None], "b": [None, "x", None], "c": [[1, 2], ["y"], None]}
    assert [problem.what for problem in table.problems_in("a")][2:] == [
        "the data: rows with a value that can't be stored in 'a'"
    ]
    found = {problem.what: list(problem.rows) for problem in table.problems}
    assert found == {
        "the data: rows that are not mappings": [3],
        "the data: rows with a column whose name is not a str": [4],
    }


def test_pandas_frames(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"text": ["a", None, "c"], "n": pd.array([1, None, 3], dtype="Int64"), "x": [1.0, 2.5, None]})
    table = read(frame, tmp_path)
    assert list_columns(table) == {"text": ["a", None, "c"], "n": [1, None, 3], "x": [1.0, 2.5, None]}
    parts = read_parts({"train": frame, "val": frame[:1]}, tmp_path / "two")
    assert {part: t.row_count for part, t in parts.items()} == {"train": 3, "validation": 1}


def test_datasets_keep_class_names(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, -1]}, features=features)
    table = read_parts(datasets.DatasetDict({"train": rows}), tmp_path / "spool")["train"]
    assert list_columns(table) == {"text": ["a", "b", "c"], "label": ["neg", "pos", None]}
    assert len(table.notes) == 1


@pytest.mark.parametrize("source", [5, b"bytes", {"train": 5}, {"dev": []}, {}, "", "a\0b", iter([])])
def test_other_objects_are_refused(tmp_path: Path, source: Any) -> None:
    message(source, tmp_path)


def test_hub_without_network_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def fail(name: str) -> None:
        raise ConnectionError(f"no way to {name}\nand a long trace")

    monkeypatch.setattr(datasets, "load_dataset_builder", fail)
    assert "found: datasets says: no way to nobody/nothing\n" in message("nobody/nothing", tmp_path)


@given(content=st.binary(max_size=200), suffix=st.sampled_from(["csv", "tsv", "jsonl", "json", "parquet"]))
@settings(max_examples=200, deadline=None)
def test_no_bytes_break_a_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        table = read(write(folder, f"a.{suffix}", content), folder)
    except AfinaError:
        return
    assert table.row_count >= 1
    for name in table.names:
        assert len(list(table.column(name))) == table.row_count


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, afina.data.read, afina.data.columns, afina.data.examples\n"
        "heavy = {'torch', 'transformers', 'pandas', 'datasets', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(' '.join(sorted(heavy)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numbers_of_rows_are_read_without_their_texts(tmp_path: Path) -> None:
    """All texts of a large file would be in memory for them, as long as the numbers are gathered."""
    rows = [{"text": "word " * 20_000} for _ in range(400)]
    table = read_parts(rows, tmp_path / "rows")["all"]
    usual, counted = pa.default_memory_pool(), pa.system_memory_pool()
    before = counted.max_memory()
    pa.set_memory_pool(counted)
    try:
        assert table.row_numbers.tolist() == list(range(1, 401))
        assert counted.max_memory() - before < 2**20
        assert len(table.take([399], ["text"])["text"][0]) == 100_000
        assert counted.max_memory() - before > 2**20, "this is counted"
    finally:
        pa.set_memory_pool(usual)


def test_rows_that_all_are_bad_are_not_to_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "text": "b"}\n' * 3)
    with pytest.raises(DataError, match="none of its 3 rows can be used") as caught:
        read_parts(path, tmp_path / "spool")
    assert str(caught.value).endswith("do: mend these rows")


@pytest.mark.parametrize("name", ["-", "pipe"])
def test_a_pipe_is_no_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(DataError, match="rows aren't read from a pipe"):
        read_parts(name, tmp_path / "spool")


TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
SHARED = [{"from": "human", "value": "c"}, {"from": "gpt", "value": "d"}]


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_bare_lists_of_messages_are_rows(suffix: str, tmp_path: Path) -> None:
    lists = [TALK, SHARED, [{"text": "a"}], []]
    text = json.dumps(lists) if suffix == ".json" else "".join(json.dumps(each) + "\n" for each in lists)
    table = read(write(tmp_path, f"rows{suffix}", text), tmp_path)
    assert list_columns(table)["messages"] == [TALK, SHARED]
    (problem,) = table.problems
    assert (problem.what, list(problem.rows)) == (f"rows{suffix}: rows that are not JSON objects", [3, 4])


def test_columns_of_any_kind_are_a_table(tmp_path: Path) -> None:
    columns = {"text": ["a", "b"], "meta": [{"n": 1}, {"n": 2}], "label": pa.array(["x", "y"])}
    table = read(columns, tmp_path)
    assert list_columns(table) == {"text": ["a", "b"], "meta": [{"n": 1}, {"n": 2}], "label": ["x", "y"]}
    parts = read_parts({"train": columns, "test": [{"text": "c"}]}, tmp_path / "spool")
    assert {name: list(table.column("text")) for name, table in parts.items()} == {"train": ["a", "b"], "test": ["c"]}
    with pytest.raises(DataError, match="the data has a part 'rows'"):
        read({"rows": [{"text": "a"}]}, tmp_path)


def test_the_home_of_somebody_unknown_is_a_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file or folder ~nobody-here"):
        read("~nobody-here/a.csv", tmp_path)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("my rows.jsonl.gz", "gunzip -k '{}'"),
        ("a.ndjson", "rename it to a.jsonl"),
        ("a.xlsx", "save the sheet as csv"),
    ],
)
def test_other_formats_are_told_how_to_become_one(name: str, remedy: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, "a")
    with pytest.raises(DataError) as caught:
        read(path, tmp_path)
    assert caught.value.problems[0].remedy == remedy.format(path)


def test_columns_without_a_name_at_the_end_are_left_out(tmp_path: Path) -> None:
    """As spreadsheets write them."""
    (tmp_path / "a.csv").write_text('v1,v2,,\nham,"a, b",,\nspam,c,d,\nham,e\nham,f,,,\nham,g,,,h\n')
    table = read(tmp_path / "a.csv", tmp_path)
    assert list_columns(table) == {"v1": ["ham", "spam", "ham", "ham"], "v2": ["a, b", "c", "e", "f"]}
    assert table.notes == ("a.csv: 2 columns after 'v2' without a name: left out, with what 1 row holds in them",)
    (problem,) = table.problems
    assert (list(problem.rows), problem.found) == ([5], "5 fields in 1 row")


@pytest.mark.parametrize(
    ("encoding", "text", "found"),
    [
        ("cp1251", "Это хороший день и мы идём гулять", "it may be WINDOWS-1251 (Cyrillic)"),
        ("shift_jis", "これはとても良い映画でした", "it may be SHIFT_JIS (Japanese)"),
        ("euc_kr", "이 영화는 정말 재미있었습니다", "it may be EUC-KR (Korean)"),
        ("gb18030", "这部电影真的非常好看我很喜欢质量不错", "it may be GB18030 (Chinese)"),
        ("cp1252", "Größe über alles", "it may be Latin-1 (WINDOWS-1252)"),
    ],
)
def test_other_alphabets_are_named(encoding: str, text: str, found: str, tmp_path: Path) -> None:
    """Western letters made of their bytes would be learned without an error."""
    (tmp_path / "a.csv").write_bytes(("text,label\n" + f"{text},x\n" * 20).encode(encoding))
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.csv", tmp_path)
    assert found in str(caught.value)


def test_a_comma_too_many_is_not_hidden_by_columns_without_a_name(tmp_path: Path) -> None:
    """It would make a label of the rest of a text."""
    rows = [*(f"text {i},{'yn'[i % 2]},," for i in range(6)), "good, really good,y,", "odd,n,x,"]
    (tmp_path / "a.csv").write_text("\n".join(["text,label,,", *rows]) + "\n")
    table = read(tmp_path / "a.csv", tmp_path)
    assert list_columns(table)["label"] == ["y", "n"] * 3 + ["n"]
    (problem,) = table.problems
    assert (list(problem.rows), problem.found) == ([7], "4 fields in 1 row")
    (tmp_path / "b.csv").write_text("a,b,,\n" + "1,2,3,4\n" * 5)  # filled in every row
    assert list_columns(read(tmp_path / "b.csv", tmp_path)) == {"a": ["1"] * 5, "b": ["2"] * 5}


def test_empty_fields_behind_the_last_column_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",text,label\n0,a,x,\n1,b,y,,\n")
    assert list_columns(read(tmp_path / "a.csv", tmp_path)) == {"text": ["a", "b"], "label": ["x", "y"]}


@pytest.mark.parametrize(("separator", "said"), [(";", "semicolons"), ("\t", "tabs"), ("~", "'~'")])
def test_a_first_line_may_name_the_separator(separator: str, said: str, tmp_path: Path) -> None:
    lines = ["sep=" + separator, *(separator.join(each) for each in (("text", "label"), ("a,b", "x"), ('c"d', "y")))]
    (tmp_path / "a.csv").write_text("\ufeff" + "\r\n".join(lines), newline="")
    table = read(tmp_path / "a.csv", tmp_path)
    assert list_columns(table) == {"text": ["a,b", 'c"d'], "label": ["x", "y"]}
    assert table.notes == (f"a.csv: its first line says that {said} separate its fields",)


def test_lines_are_counted_from_the_first_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('sep=;\ntext;label\n"a"b;x\nc;y\n')
    (problem,) = read(tmp_path / "a.csv", tmp_path).problems
    assert problem.found.startswith("on line 3 of the file")


@pytest.mark.parametrize("index", [[0, 1], [7, 3]])
@pytest.mark.parametrize("orient", ["columns", "index", "split"])
def test_frames_as_pandas_writes_them(orient: str, index: list[int], tmp_path: Path) -> None:
    """Rows that were shuffled or chosen keep their numbers."""
    frame = pd.DataFrame({"text": ["a", "ñ"], "label": ["x", None]}, index=index)
    frame.to_json(tmp_path / "a.json", orient=orient)
    table = read(tmp_path / "a.json", tmp_path)
    assert list_columns(table) == {"text": ["a", "ñ"], "label": ["x", None]}
    assert table.notes == ("a.json: one object, as pandas writes it, read row by row",)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('{"text": {"0": "a"}, "label": {"0": "x", "1": "y"}}', "one object whose columns don't fit together"),
        ('{"columns": ["a", "a"], "data": [["x", "y"]]}', "one object whose columns don't fit together"),
        ('{"columns": ["a", "b"], "data": [["x"]]}', "one object whose columns don't fit together"),
        ('{"text": {"0": "a"', "is not one JSON object"),
        ('{"text": {"0": "a", "0": "b"}}', "is not one JSON object"),
    ],
)
def test_objects_that_are_no_frame(written: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(written)
    with pytest.raises(DataError, match=said):
        read(tmp_path / "a.json", tmp_path)


def test_lines_that_begin_like_a_frame_are_lines(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"text": {"0": "a"}}\n{"text": {"0": "b"}}\n')
    assert list_columns(read(tmp_path / "a.json", tmp_path)) == {"text": [{"0": "a"}, {"0": "b"}]}


def test_lists_of_messages_a_line_are_read_under_the_name_json_too(tmp_path: Path) -> None:
    talk = json.dumps([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    (tmp_path / "a.json").write_text(f"{talk}\n{talk}\n")
    table = read(tmp_path / "a.json", tmp_path)
    assert list_columns(table) == {"messages": [json.loads(talk)] * 2}
    assert table.notes == ("a.json: read as JSON lines, since it holds a list of messages a line",)
    (tmp_path / "b.json").write_text('[{"text": "a"}]\n')
    assert list_columns(read(tmp_path / "b.json", tmp_path)) == {"text": ["a"]}


def test_a_row_that_was_cut_off_ends_early(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": "b"}\n{"messages": [{"role": "user"\n')
    (problem,) = read_parts(path, tmp_path / "spool")["all"].problems_in(["text"])
    assert problem.found == "it ends early, after character 29"


def test_a_file_called_eval_is_the_validation_part(tmp_path: Path) -> None:
    for name in ("train", "eval"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a", "label": "b"}\n')
    assert set(find_part_files(tmp_path)) == {"train", "validation"}


def test_files_of_no_part_are_told(tmp_path: Path) -> None:
    for name in ("train.jsonl", "test.jsonl", "train_extra.jsonl", "more.csv"):
        (tmp_path / name).write_text('{"text": "a", "label": "b"}\n')
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "dataset_info.json").write_text("{}")
    parts = read_parts(tmp_path, tmp_path / "spool")
    assert parts["train"].notes == ("not read, since their names are those of no part: more.csv, train_extra.jsonl",)
    assert parts["test"].notes == ()
