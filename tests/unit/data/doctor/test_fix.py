"""The cleaned copy: what goes, what changes, what stays, in every format; and that the data itself is never touched."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import afina
from afina.data.doctor.characters import clean_text
from afina.errors import DataError

Rows = list[dict[str, Any]]
FIXED = {
    "empty-text", "missing-label", "unread-row", "conflicting-labels", "duplicate-rows", "leaked-rows", "mojibake",
    "control-characters", "label-variants",
}  # fmt: skip
BAD: Rows = [
    {"text": "cafÃ© trÃ¨s bon", "label": "pos"},
    {"text": "bell\x07 rings", "label": "neg"},
    {"text": "torn", "label": "pos"},
    {"text": "Torn", "label": "neg"},
    {"text": "a text of its own", "label": "Pos "},
    {"text": "", "label": "pos"},
    {"text": "no label", "label": ""},
]


def write_csv(rows: Rows, path: Path, *, end: str = "\n", start: str = "", delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(start)
        writer = csv.DictWriter(file, list(rows[0]), lineterminator=end, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def read_log(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@pytest.mark.parametrize("delimiter", [";", "#"])
def test_a_line_that_names_the_separator_stays(delimiter: str, rows: Rows, tmp_path: Path) -> None:
    """Nothing else may tell what separates the fields."""
    source, copy, again = (tmp_path / name for name in ("a.csv", "b.csv", "c.csv"))
    table = [{"text": row["text"], "la,bel": row["label"]} for row in rows]
    write_csv(table, source, delimiter=delimiter, end="\r\n", start=f"\ufeffsep={delimiter}\r\n")
    afina.check(source, fix=copy, label_column="la,bel", verbose=False)
    assert copy.read_bytes().startswith(f"\ufeffsep={delimiter}\r\ntext{delimiter}la,bel\r\n".encode())
    afina.check(copy, fix=again, label_column="la,bel", verbose=False)
    assert again.read_bytes() == copy.read_bytes()


def test_a_file_may_be_called_what_the_log_of_a_folder_is(rows: Rows, tmp_path: Path) -> None:
    source, copy = tmp_path / "changes.jsonl", tmp_path / "b.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in [*rows, rows[0]]), encoding="utf-8")
    afina.check(source, fix=copy)
    assert len(read_log(copy)) == len(rows)
    assert [each["rule"] for each in read_log(tmp_path / "b.jsonl.changes.jsonl")] == ["duplicate-row"]


def test_a_copy_that_was_killed_before_it_had_its_name_is_made_again(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, copy, log = (tmp_path / name for name in ("a.jsonl", "b.jsonl", "b.jsonl.changes.jsonl"))
    source.write_text("".join(f"{json.dumps(row)}\n" for row in [*rows, rows[0]]), encoding="utf-8")
    (tmp_path / ".b.jsonl.tmp").mkdir()
    log.write_text("of the one that was killed")
    afina.check(source, fix=copy)
    assert [each["rule"] for each in read_log(log)] == ["duplicate-row"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl", "b.jsonl.changes.jsonl"]
    copy.unlink()
    with pytest.raises(DataError, match=r"b\.jsonl\.changes\.jsonl exists already"):
        afina.check(source, fix=copy)


@pytest.fixture
def mixed(rows: Rows) -> Rows:
    """Good rows, each kind of bad one, and a repeated one, with a column that nobody reads."""
    return [{"id": i, **row} for i, row in enumerate([*rows, *BAD, rows[0]])]


def test_the_copy_and_its_log(mixed: Rows, tmp_path: Path) -> None:
    source, copy = tmp_path / "a.csv", tmp_path / "b.csv"
    write_csv(mixed, source, end="\r\n", start="\ufeff")
    with source.open("a", encoding="utf-8", newline="") as file:
        file.write("too,few\r\n")
    before = source.read_bytes()
    report = afina.check(source, fix=copy)
    assert source.read_bytes() == before
    assert report.fixed["rows"] == {"all": 43}
    assert report.fixed["rules"] == {
        "characters": 2, "conflicting-labels": 2, "label-variant": 1, "empty-row": 2, "duplicate-row": 1,
        "unread-row": 1,
    }  # fmt: skip
    assert copy.read_bytes().startswith(b"\xef\xbb\xbfid,text,label\r\n")
    with copy.open(encoding="utf-8-sig", newline="") as file:
        kept = list(csv.DictReader(file))
    wanted = [{**row, "id": str(row["id"])} for row in mixed[:42]] + [{**mixed[44], "id": "44"}]
    wanted[40]["text"], wanted[41]["text"], wanted[42]["label"] = "café très bon", "bell rings", "pos"
    assert kept == wanted
    log = read_log(tmp_path / "b.csv.changes.jsonl")
    assert log[0] == {
        "part": "all", "row": 41, "rule": "characters", "column": "text", "before": "cafÃ© trÃ¨s bon",
        "after": "café très bon",
    }  # fmt: skip
    assert log[-1] == {"part": "all", "row": 49, "rule": "unread-row", "before": None, "after": None}
    assert not FIXED & {finding.code for finding in afina.check(copy).findings}


def test_a_copy_that_cant_be_written_is_the_users_to_solve(rows: Rows, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    write_csv(rows, source)
    (tmp_path / ".b.csv.tmp").write_text("in the way")
    with pytest.raises(DataError) as caught:
        afina.check(source, fix=tmp_path / "b.csv")
    cause = "File exists\n  do: another fix=OUT"
    assert str(caught.value) == f"{tmp_path / 'b.csv'} can't be written\n  found: {cause}"


def test_a_folder_that_cant_get_its_name_leaves_nothing(rows: Rows, tmp_path: Path) -> None:
    source, output = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    write_csv(rows, source / "train.csv")
    output.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="can't be written\n  found: Not a directory"):
        afina.check(source, fix=output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_rows_whose_text_is_something_else_go(rows: Rows, tmp_path: Path) -> None:
    source, copy = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    spoiled = [*rows, {"text": 5, "label": "pos"}, {"text": ["a"], "label": "neg"}]
    source.write_text("".join(json.dumps(row) + "\n" for row in spoiled), encoding="utf-8")
    assert afina.check(source, fix=copy, text_column="text").fixed["rules"] == {"text-not-text": 2}
    log = read_log(tmp_path / "b.jsonl.changes.jsonl")
    assert [(entry["row"], entry["before"]["text"]) for entry in log] == [(41, 5), (42, ["a"])]
    assert not afina.check(copy).has_errors


@pytest.mark.parametrize(
    "name", ["rows.tsv", "rows.jsonl", "rows.json", "lines.json", "rows.parquet", "semicolons.csv"]
)
def test_the_format_stays(name: str, mixed: Rows, tmp_path: Path) -> None:
    source, copy = tmp_path / name, tmp_path / f"copy-of-{name}"
    if name == "rows.parquet":
        table = pa.Table.from_pylist([{**row, "blob": b"\x00"} for row in mixed])
        pq.write_table(table.cast(table.schema.set(0, pa.field("id", pa.int16()))), source)
    elif name == "rows.json":
        source.write_text(json.dumps(mixed), encoding="utf-8")
    elif name.endswith(("jsonl", "lines.json")):
        source.write_text("".join(json.dumps(row) + "\n" for row in mixed), encoding="utf-8")
    else:
        write_csv(mixed, source, delimiter="\t" if name == "rows.tsv" else ";")
    report = afina.check(source, fix=copy)
    assert report.fixed["rows"] == {"all": 43}
    assert not FIXED & {finding.code for finding in afina.check(copy).findings}
    if name == "rows.parquet":
        assert pq.read_schema(copy) == pq.read_schema(source)
        kept = pq.read_table(copy).to_pylist()
    elif name == "rows.json":
        kept = json.loads(copy.read_text(encoding="utf-8"))
    elif name.endswith(("jsonl", "lines.json")):
        kept = read_log(copy)
    else:
        with copy.open(encoding="utf-8") as file:
            kept = list(csv.DictReader(file, delimiter="\t" if name == "rows.tsv" else ";"))
    assert [int(row["id"]) for row in kept] == [*range(42), 44]
    assert [row["text"] for row in kept[:40]] == [row["text"] for row in mixed[:40]]
    assert kept[40]["text"] == "café très bon"


def test_json_rows_keep_what_they_are(rows: Rows, tmp_path: Path) -> None:
    odd = [{**rows[0], "extra": {"a": [1, 2.50, None]}}, rows[1], {**rows[2], "big": 10**30}]
    source, copy = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in [*odd, *rows[3:]]), encoding="utf-8")
    report = afina.check(source, fix=copy)
    assert (report.fixed["rules"], read_log(copy)) == ({}, [*odd, *rows[3:]])


def test_a_folder_loses_from_the_training_part_what_is_tested_on(rows: Rows, tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    data.mkdir()
    write_csv(rows, data / "train.csv")
    write_csv([*rows[:2], *rows[30:32]], data / "dev.csv")
    write_csv([rows[0], rows[31]], data / "test.csv")
    report = afina.check(data, fix=copy)
    assert report.fixed["rows"] == {"train": 36, "validation": 2, "test": 2}
    assert sorted(path.name for path in copy.iterdir()) == ["changes.jsonl", "dev.csv", "test.csv", "train.csv"]
    assert {entry["rule"] for entry in read_log(copy / "changes.jsonl")} == {"leaked-row"}
    assert not FIXED & {finding.code for finding in afina.check(copy).findings}


def test_lists_of_labels_are_unified_inside(rows: Rows, tmp_path: Path) -> None:
    several = [{"text": row["text"], "label": [row["label"], "any"]} for row in rows]
    several[5] = {**several[5], "label": ["POS", "pos", "Any"]}
    source, copy = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in several), encoding="utf-8")
    afina.check(source, fix=copy)
    assert read_log(copy)[5]["label"] == ["pos", "any"]
    cells = tmp_path / "c.csv"
    write_csv([{**row, "label": "|".join(row["label"])} for row in several], cells)
    afina.check(cells, fix=tmp_path / "d.csv", label_separator="|")
    with (tmp_path / "d.csv").open(encoding="utf-8") as file:
        assert list(csv.DictReader(file))[5]["label"] == "pos|any"


def test_numbers_far_apart_go_until_none_is_left(tmp_path: Path) -> None:
    rows = [{"text": f"row {i} of many", "label": i / 7} for i in range(30)]
    wide = [{"text": "wide", "label": label} for label in (-500.0, 500.0)]
    narrow = [{"text": "narrow", "label": label} for label in (0.0, 4.2)]
    source, copy = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *wide, *narrow]), encoding="utf-8")
    found = {each.code: each.count for each in afina.check(source, fix=copy).findings}
    assert found["conflicting-labels"] == 2  # beside those of `wide` the others lie near each other
    assert read_log(copy) == rows
    assert not FIXED & {finding.code for finding in afina.check(copy).findings}


def test_conversations_are_cleaned_inside_and_may_have_two_answers(tmp_path: Path) -> None:
    def chat(question: str, answer: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}

    rows = [chat(f"question {i}", f"answer {i}") for i in range(10)]
    bad = [chat("question 1", "another answer"), chat("cafÃ©?", "sÃ­\x07"), rows[3], {"messages": []}]
    source, copy = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *bad]), encoding="utf-8")
    afina.check(source, fix=copy)
    assert read_log(copy) == [*rows, bad[0], chat("café?", "sí")]
    cells, fixed = tmp_path / "c.csv", tmp_path / "d.csv"
    write_csv([{"messages": json.dumps(row["messages"])} for row in [*rows, bad[1]]], cells)
    afina.check(cells, fix=fixed)
    with fixed.open(encoding="utf-8") as file:
        assert json.loads(list(csv.DictReader(file))[-1]["messages"]) == chat("café?", "sí")["messages"]


def test_what_cannot_be_written_is_refused_before_anything_is_read(rows: Rows, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    write_csv(rows, source)
    taken = tmp_path / "b.csv"
    taken.write_text("mine")
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "state.json").write_text("{}")
    refused: list[tuple[Any, Path, str]] = [
        (
            saved,
            tmp_path / "c",
            f"no cleaned copy of {saved} can be written\n  found: a folder of Dataset.save_to_disk",
        ),
        (source, taken, f"{taken} exists already, and nothing is written over\n  do: another fix=OUT"),
        (source, source, f"{source} exists already, and nothing is written over\n  do: another fix=OUT"),
        (source, tmp_path / "c.jsonl", "a cleaned copy keeps the format of the data"),
        (source, tmp_path / "no" / "c.csv", f"the folder {tmp_path / 'no'} doesn't exist"),
        (rows, tmp_path / "c.csv", "fix copies a file or a folder"),
    ]
    for data, output, said in refused:
        with pytest.raises(DataError) as caught:
            afina.check(data, fix=output)
        assert str(caught.value).startswith(said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv", "saved"]
    assert taken.read_text() == "mine"


def test_a_copy_that_fails_leaves_nothing(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.csv"
    write_csv(rows, source)

    def fail(*_: Any) -> int:
        raise OSError("no space left")

    monkeypatch.setattr("afina.data.doctor.copy.rewrite_file", fail)
    with pytest.raises(OSError, match="no space left"):
        afina.check(source, fix=tmp_path / "b.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


PIECES = st.sampled_from(
    ["good", "Good ", "film", "cafÃ©", "it\x92s", "\x07", "\x00", "�", "two  words", "ñandú", "Ã", "Â£", "é…", "x"]
)
TEXTS = st.lists(PIECES, max_size=4).map(" ".join) | st.text(max_size=12)
LABELS = st.sampled_from(["a", "A", "a ", "b", "B", "", "c"])
TABLES = st.lists(st.tuples(TEXTS, LABELS), max_size=25)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(train=TABLES, test=TABLES)
def test_a_fixed_copy_has_nothing_left_to_fix_and_nothing_else_changed(
    train: list[tuple[str, str]], test: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("data")
    data, copy = folder / "data", folder / "copy"
    data.mkdir()
    # Two sure rows on each side keep a run possible.
    sure = {"train": [("row one", "a"), ("row two", "b")], "test": [("row three", "a"), ("row four", "b")]}
    given_rows = {
        part: [{"id": i, "text": text, "label": label} for i, (text, label) in enumerate([*sure[part], *rows])]
        for part, rows in (("train", train), ("test", test))
    }
    for part, rows in given_rows.items():
        (data / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    afina.check(data, fix=copy)
    assert not FIXED & {finding.code for finding in afina.check(copy).findings}
    log = read_log(copy / "changes.jsonl")
    for part, rows in given_rows.items():
        changed = {(entry["row"], entry.get("column")): entry for entry in log if entry["part"] == part}
        expected = []
        for number, row in enumerate(rows, 1):
            if (number, None) in changed:
                assert changed[number, None]["before"] == row
                continue
            cells = {c: changed[number, c]["after"] if (number, c) in changed else v for c, v in row.items()}
            expected.append(cells)
        assert read_log(copy / f"{part}.jsonl") == expected


@given(TEXTS)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, find: Callable[..., Any]) -> None:
    """No classifier of languages: the rows here are made of pieces."""
    monkeypatch.setattr("afina.data.doctor.languages.Languages.applies", lambda check: False)


def test_a_copy_may_go_home(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    write_csv(rows, tmp_path / "a.csv")
    afina.check(tmp_path / "a.csv", fix="~/b.csv", html="~/c.html")
    assert {"b.csv", "c.html"} <= {path.name for path in (tmp_path / "home").iterdir()}
