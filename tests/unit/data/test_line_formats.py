"""Plain texts, and words with a tag each, one a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from afina.data import line_formats
from afina.data.read import read_parts
from afina.data.rows import RowTable
from afina.errors import DataError

CONLL = "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\n\nPeter NNP I-NP B-PER\n\n\n"


def read(path: Path, content: str | bytes) -> RowTable:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_parts(str(path), path.parent / "spool")["all"]


def list_columns(table: RowTable) -> dict[str, list[object]]:
    return {name: list(table.column(name)) for name in table.names}


@pytest.mark.parametrize(
    ("content", "texts", "unit"),
    [
        ("one\nmore\n\ntwo\n \n\n three", ["one\nmore", "two", " three"], "the text between two blank lines"),
        ("\n\none\ntwo\r\n\n", ["one", "two"], "a line, since no line is blank"),
        ("\ufeffone", ["one"], "a line, since no line is blank"),
        ("x" * 2**16 + "\ntwo", ["x" * 2**16, "two"], "a line, since no line is blank"),
        ("one\n" * 101 + "\ntwo", ["one\n" * 100 + "one", "two"], "the text between two blank lines"),
        ("one\n" * 40_000 + "\ntwo", ["one"] * 40_000 + ["two"], "a line, since only 1 blank line in 40,001"),
    ],
)
def test_plain_texts(tmp_path: Path, content: str, texts: list[str], unit: str) -> None:
    table = read(tmp_path / "a.txt", content)
    assert list_columns(table) == {"text": texts}
    assert table.notes == (f"a.txt: a row is {unit}",)


def test_a_file_larger_than_the_look_at_its_beginning(tmp_path: Path) -> None:
    texts = [f"{number} " + "word " * 5000 for number in range(9)]
    assert list(read(tmp_path / "a.txt", "\n\n".join(texts)).column("text")) == texts


@pytest.mark.parametrize("name", ["a.conll", "a.bio", "a.txt"])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_words_and_tags(tmp_path: Path, name: str, separator: str) -> None:
    table = read(tmp_path / name, CONLL.replace(" ", separator))
    assert list_columns(table) == {
        "tokens": [["EU", "rejects"], ["Peter"]], "column 2": [["NNP", "VBZ"], ["NNP"]],
        "column 3": [["I-NP", "I-VP"], ["I-NP"]], "tags": [["B-ORG", "O"], ["B-PER"]],
    }  # fmt: skip
    assert bool(table.notes) == name.endswith("txt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("# sent_id = 1\nThe DT\n# #\nsign NN\n", [["The", "#", "sign"]]),
        ("# a comment\nThe\tDT\n#\tSYM\n", [["The", "#"]]),
        ("# newdoc id\nThe x DT\n# text = The\n# x SYM\n\n# alone\n\n# x O\n", [["The", "#"], ["#"]]),
    ],
)
def test_words_that_are_a_hash_are_no_comments(tmp_path: Path, content: str, words: list[list[str]]) -> None:
    rows = list_columns(read(tmp_path / "a.conll", content))["tokens"]
    assert rows == words


@pytest.mark.parametrize("content", ["one word\nanother O\n", "a O\n", "to be or\nnot to be\n", "a O x\nb O\n"])
def test_texts_are_no_words_and_tags(tmp_path: Path, content: str) -> None:
    assert read(tmp_path / "a.txt", content).names == ("text",)


def test_lines_that_are_no_word_and_tag(tmp_path: Path) -> None:
    table = read(tmp_path / "a.conll", "a O\nb\n\nc O\n\nd e O\n")
    assert list_columns(table) == {"tokens": [["c"]], "tags": [["O"]]}
    (problem,) = table.problems
    assert (problem.what, list(problem.rows), problem.found) == (
        "a.conll: rows with a line that isn't a word and its tag", [1, 3], "b"
    )  # fmt: skip


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (problem,) = read(tmp_path / "a.txt", b"good\n\ncaf\xe9\n").problems
    assert (list(problem.rows), "byte 0xe9 at offset 9" in problem.found) == ([2], True)


def test_a_text_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_formats, "FIELD_CHARACTERS", 100)
    with pytest.raises(DataError, match="a text of 100 characters or more without a blank line"):
        read(tmp_path / "a.txt", "a\n\n" + "more\n" * 50)
    with pytest.raises(DataError, match="a text of 100 characters or more without an end of its line"):
        read(tmp_path / "b.txt", "a\n" + "more " * 50)


def test_a_folder_of_texts(tmp_path: Path) -> None:
    folder = tmp_path / "books"
    folder.mkdir()
    for name, text in (("b.txt", "second"), ("a.md", "# first\n\nmore"), (".hidden", "x"), ("c.txt", " \n")):
        (folder / name).write_text(text)
    (table,) = read_parts(str(folder), tmp_path / "spool").values()
    assert list_columns(table) == {"text": ["# first\n\nmore", "second", " "]}
    (folder / "notes.pdf").write_text("x")
    with pytest.raises(DataError, match="holds no training part"):
        read_parts(str(folder), tmp_path / "spool")


def test_parts_of_a_folder(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / f"{part}.txt").write_text(CONLL)
    assert {part: table.row_count for part, table in read_parts(str(tmp_path), tmp_path / "s").items()} == {
        "train": 2, "test": 2
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a.txt", "a.conll", "folder"])
def test_no_copy_of_a_file_without_columns(tmp_path: Path, name: str) -> None:
    from afina.data.doctor.copy import check_output

    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        (path / "a.txt").touch()
    path.touch()
    with pytest.raises(DataError, match=f"no cleaned copy of {name} can be written"):
        check_output(path, tmp_path / "out")


def test_comments_of_conll_are_no_words(tmp_path: Path) -> None:
    content = "# text = Ana lives\nAna B-PER\nlives O\n\n# id = 2\n# O\nhere O\n"
    assert list(read(tmp_path / "a.conll", content).column("tokens")) == [["Ana", "lives"], ["#", "here"]]
    assert list(read(tmp_path / "b.txt", "Ana B-PER\nlives O\n").column("tokens")) == [["Ana", "lives"]]


def test_a_folder_of_texts_gives_a_row_for_each(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in {"a.txt": "hello\n", "b.txt": " \n", "c.txt": "bye\r\n", "README.md": "about"}.items():
        (folder / name).write_text(text)
    assert list(read_parts(folder, tmp_path / "spool")["all"].column("text")) == ["hello", " ", "bye"]
    (folder / "d.md").write_text("more")
    assert next(iter(read_parts(folder, tmp_path / "spool")["all"].column("text"))) == "about"
