"""Several files that are one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from afina.data.doctor.rewrite import rewrite_file
from afina.data.part_files import find_part_files
from afina.data.read import open_files, read_parts
from afina.errors import DataError

INCOMPLETE = "holds 2 files for the part 'train', and not all"


def write(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("__", "-").replace("_csv", ".csv").replace("_jsonl", ".jsonl")).write_text(text)
    return folder


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def list_rows(table: Any) -> list[str]:
    return [value for batch in table.columns("text") for (value,) in zip(*batch, strict=True)]


@pytest.mark.parametrize(
    "names",
    [
        ("train__00000-of-00002_jsonl", "train__00001-of-00002_jsonl"),
        ("train1_jsonl", "train2_jsonl"),
        ("Train__1_jsonl", "train__2_jsonl"),
        ("train__9_jsonl", "train__10_jsonl"),
    ],
)
def test_shards_are_one_part(names: tuple[str, str], tmp_path: Path) -> None:
    first, second = lines({"text": "a"}, {"text": "b"}), lines({"text": "c", "n": 1})
    folder = write(tmp_path / "set", **dict(zip(names, (first, second), strict=True)), test_jsonl=lines({"text": "d"}))
    parts = read_parts(folder, tmp_path / "rows")
    table = parts["train"]
    assert list_rows(parts["test"]) == ["d"]
    assert list_rows(table) == ["a", "b", "c"]
    assert table.row_numbers.tolist() == [1, 2, 3]
    first_name, second_name = sorted(
        (path.name for path in folder.glob("[tT]rain*")), key=lambda name: (len(name), name)
    )
    assert table.notes == (f"rows are numbered through 2 files: {first_name} from row 1, {second_name} from row 3",)


def test_numbered_files_without_a_part_are_one_table(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", part0_csv="text,n\na,1\n", part1_csv="text,n\nb,2\n")
    (folder / "README.md").write_text("a card")
    assert list_rows(read_parts(folder, tmp_path / "rows")["all"]) == ["a", "b"]


def test_numbered_parts_lie_beside_plain_ones_and_any_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", train_csv="text\na\n", test1_csv="text\nb\n", test2_csv="text\nc\n")
    (folder / "data").mkdir()
    parts = read_parts(folder, tmp_path / "rows")
    assert [list_rows(parts[part]) for part in ("train", "test")] == [["a"], ["b", "c"]]
    other = write(tmp_path / "other", rows0_csv="text\na\n", rows1_csv="text\nb\n")
    (other / "data").mkdir()
    assert list_rows(read_parts(other, tmp_path / "rows")["all"]) == ["a", "b"]


def test_faults_are_numbered_through(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "set",
        part0_jsonl=lines({"text": "a"}) + "[1]\n",
        part1_jsonl="nonsense\n[2]\n" + lines({"text": "b"}),
    )
    table = read_parts(folder, tmp_path / "rows")["all"]
    assert list_rows(table) == ["a", "b"]
    assert table.row_numbers.tolist() == [1, 5]
    assert {problem.what: (list(problem.rows), problem.found) for problem in table.problems} == {
        "part0.jsonl and 1 more: rows that are not JSON objects": ([2, 4], "part0.jsonl, its row 2: a list"),
        "part0.jsonl and 1 more: rows that are not valid JSON": (
            [3], "part1.jsonl, its row 1: no value where one should be at character 1"
        ),
    }  # fmt: skip


def test_bytes_are_explained_by_the_file_that_holds_them(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", part0_jsonl=lines({"text": "a"}), part1_jsonl="")
    (folder / "part1.jsonl").write_bytes('{"text": "año"}\n'.encode("latin-1") + lines({"text": "b"}).encode())
    (problem,) = read_parts(folder, tmp_path / "rows")["all"].problems
    assert list(problem.rows) == [2]
    assert problem.found.startswith("part1.jsonl, its row 1: byte 0xf1 at offset 11")


def test_columns_of_csv_shards_agree(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", part0_csv="text,n\na,1\n", part1_csv="n,text\n1,b\n")
    with pytest.raises(DataError, match=r"part1\.csv has other columns than part0\.csv"):
        read_parts(folder, tmp_path / "rows")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("train__00000-of-00003_jsonl", "train__00001-of-00003_jsonl"), INCOMPLETE),
        (("train__00000-of-00002_jsonl", "train__00001-of-00002_csv"), INCOMPLETE),
        (("train_jsonl", "train__00000-of-00001_jsonl"), INCOMPLETE),
        (("train_jsonl", "train_csv"), "holds 2 files for the part 'train'"),
        (("train1_jsonl", "training1_jsonl"), "holds 2 files for the part 'train'"),
        (("train_csv", "train1_csv"), "holds 2 files for the part 'train'"),
        (("train1_csv", "train2_csv", "train1_jsonl", "train2_jsonl"), "holds 4 files for the part 'train'"),
        (("train_csv", "dev1_csv", "val1_csv"), "holds 2 files for the part 'validation'"),
        (("a1_jsonl", "b1_jsonl"), "holds no training part"),
        (("data_csv", "data1_csv", "data2_csv"), "holds no training part"),
        (("rows1_csv", "rows2_csv", "extra_csv"), "holds no training part"),
        (("a1_jsonl",), "holds no training part"),
    ],
)  # fmt: skip
def test_what_is_no_family_is_refused(names: tuple[str, ...], said: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", **dict.fromkeys(names, "text\na\n"))
    with pytest.raises(DataError, match=said):
        find_part_files(folder)


def test_what_is_in_the_way_is_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "set")
    (folder / "docs").mkdir()
    with pytest.raises(DataError) as caught:
        find_part_files(folder)
    (problem,) = caught.value.problems
    assert (problem.found, problem.remedy) == (
        "folders: docs", f"name one of the folders, such as {folder / 'docs'}; texts have to lie in one folder"
    )  # fmt: skip
    for name in ("a.txt", "b.txt", "c.pdf"):
        (folder / name).write_text("a")
    with pytest.raises(DataError, match=r"take c\.pdf away, and each text is a row"):
        find_part_files(folder)


def test_shards_are_cleaned_into_one_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", part0_csv="text;n\na;1\n", part1_csv="text;n\nb;2\nc;3\n")
    changes: dict[int, dict[str, Any] | None] = {1: {"text": "x"}, 2: None, 3: {}}
    source = open_files(find_part_files(folder)["all"])
    assert rewrite_file(source, tmp_path / "copy.csv", lambda number, row: changes[number]) == 2
    assert (tmp_path / "copy.csv").read_text() == "text;n\nx;1\nc;3\n"
    other = write(tmp_path / "other", part0_jsonl=lines({"text": "a"}), part1_jsonl=lines({"text": "b"}))
    source = open_files(find_part_files(other)["all"])
    assert rewrite_file(source, tmp_path / "copy.jsonl", lambda number, row: {}) == 2
    assert (tmp_path / "copy.jsonl").read_text() == lines({"text": "a"}, {"text": "b"})
