"""An error says everything that is wrong, and the tree in the docstring is the tree of the classes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from afina import errors
from afina.errors import (
    AfinaError,
    ConfigError,
    DataError,
    Interrupted,
    MissingExtraError,
    ModelError,
    Problem,
    ProofError,
    ResourceError,
    RunFolderError,
    TrainingError,
    UserError,
    describe_cause,
    describe_rows,
    find_close,
    take_sentences,
)


def read_drawing() -> dict[str, str]:
    """Class -> base, as drawn in the docstring."""
    above: list[tuple[int, str]] = []
    bases: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        words = line.lstrip(" │├└─").split()
        if not words or not words[0].isidentifier() or not hasattr(errors, words[0]):
            above = [(0, words[0])] if words == ["KeyboardInterrupt"] else above
            continue
        depth = line.index(words[0])
        above = [(column, name) for column, name in above if column < depth]
        bases[words[0]] = above[-1][1] if above else "Exception"
        above.append((depth, words[0]))
    return bases


def test_the_drawing_is_the_tree() -> None:
    kinds = inspect.getmembers(errors, inspect.isclass)
    classes = {name: kind for name, kind in kinds if issubclass(kind, BaseException)}
    assert len(classes) == 11
    assert read_drawing() == {name: kind.__bases__[0].__name__ for name, kind in classes.items()}


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (AfinaError("x"), 1), (UserError("x"), 2), (ConfigError("x"), 2), (DataError("x"), 2), (ModelError("x"), 2),
        (ResourceError("x"), 2),
        (RunFolderError("x"), 2), (MissingExtraError("p", "e", "x"), 2), (TrainingError("x"), 1), (ProofError("x"), 1),
        (Interrupted(130), 130), (Interrupted(143), 143),
    ],
)  # fmt: skip
def test_exit_codes(error: AfinaError, exit_code: int) -> None:
    assert error.exit_code == exit_code


def test_one_problem_says_what_was_found_expected_and_to_do() -> None:
    error = DataError("the label is empty", found="''", expected="a name", remedy="--set data.on_bad_rows=drop")
    assert error.problems == (Problem("the label is empty", "''", "a name", "--set data.on_bad_rows=drop"),)
    assert str(error) == (
        "the label is empty\n  found: ''\n  expected: a name\n  do: --set data.on_bad_rows=drop"
    )  # fmt: skip


def test_parts_that_say_nothing_are_left_out() -> None:
    assert str(DataError("the file is empty")) == "the file is empty"
    assert str(DataError("the file is empty", remedy="another file")) == "the file is empty\n  do: another file"


def test_several_problems_are_numbered_under_a_heading() -> None:
    problems = [Problem("a", found="1"), Problem("b", rows=[3, 4])]
    assert str(DataError(problems=problems)) == "2 problems\n1. a\n     found: 1\n2. b (rows 3, 4)"
    assert str(DataError("the file x", problems=problems)) == (
        "the file x\n1. a\n     found: 1\n2. b (rows 3, 4)"
    )  # fmt: skip


def test_one_problem_under_a_heading_keeps_both() -> None:
    error = ModelError("the model in x can't be used", problems=[Problem("no weights", remedy="copy them")])
    assert str(error) == "the model in x can't be used\nno weights\n  do: copy them"


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([4], "row 4"),
        ([4, 9], "rows 4, 9"),
        (list(range(1, 11)), "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"),
        (list(range(1, 12)), "11 rows: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ..."),
        (list(range(1, 2001)), "2,000 rows: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ..."),
    ],
)
def test_rows_are_listed_up_to_ten(rows: list[int], text: str) -> None:
    assert describe_rows(rows) == text


def test_a_missing_package_names_its_extra() -> None:
    error = MissingExtraError("bitsandbytes", "qlora", "the technique qlora")
    assert str(error) == (
        "the technique qlora needs the package 'bitsandbytes', which is not installed\n  do: pip install 'afina[qlora]'"
    )


def test_an_interrupted_run_says_how_to_go_on() -> None:
    error = Interrupted(143, Path("runs/a"))
    assert str(error) == "interrupted\n  do: afina resume runs/a"
    assert error.run == Path("runs/a")
    assert str(Interrupted(130)) == "interrupted"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("lable", "label"),
        ("label", "label"),
        ("epochs", "num_train_epochs"),
        ("text_a", "text"),
        ("title", None),
        ("trainer", None),
        ("", None),
    ],
)
def test_only_a_name_that_is_close_is_offered(name: str, found: str | None) -> None:
    assert find_close(name, ["label", "text", "num_train_epochs", "train_on", "head_init"]) == found


def catch(action: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011  the kind is what is asked about
        action()
    return caught.value


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (lambda: json.loads('{"a": 1 "b": 2}'), "no comma between two values (line 1, column 9)"),
        (lambda: json.loads("{'a': 1}"), "a key that isn't in double quotes (line 1, column 2)"),
        (lambda: json.loads('["a'), "a string that isn't closed (line 1, column 2)"),
        (lambda: json.loads('["\\x"]'), "a backslash with something that JSON doesn't know (line 1, column 3)"),
        (lambda: json.loads("[1] 2"), "more after the value (line 1, column 5)"),
        (lambda: b"caf\xe9".decode(), "bytes that are not UTF-8, the first at offset 3"),
        (lambda: Path("/dev/null/x").read_text(), "Not a directory"),
        (lambda: json.loads("[" * 100_000), "values nested too deeply"),
        (lambda: {}["layers"], "gguf says: 'layers'"),
        (lambda: next(iter(())), "gguf fails and doesn't say why"),
    ],
)
def test_causes_are_said_without_the_words_of_python(action: Callable[[], object], said: str) -> None:
    assert describe_cause(catch(action), "gguf") == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""),
        ("No such layer", "No such layer"),
        ("Unrecognized model in /x. Should have one of: " + "albert, " * 100, "Unrecognized model in /x."),
        ("It is not valid. Download it again.\nElse\nask", "It is not valid. Download it again."),
        ("Error in x:\n\tsize mismatch for y.\n\tand more", "Error in x: size mismatch for y."),
        (
            "Give one of:\n(1) a file, \n(2) a name or\n(3) nothing.\nElse",
            "Give one of: (1) a file, (2) a name or (3) nothing.",
        ),
        ("No way\nand a long trace", "No way"),
        ("Failed:\nTraceback (most recent call last)", "Failed:"),
        ("word " * 100, f"{'word ' * 60}..."),
        ("x" * 400, f"{'x' * 300} ..."),
    ],
)
def test_whole_sentences_are_taken_of_what_a_library_says(text: str, said: str) -> None:
    assert take_sentences(text) == said
