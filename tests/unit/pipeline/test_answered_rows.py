"""Every row of a file is answered in its order, what was answered before a stop is kept, bad rows are told first."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import afina
from afina.data.batches import PROMPTS_AT_ONCE
from afina.data.conversation_rows import ConversationFaultError
from afina.errors import ConfigError, DataError, Interrupted
from afina.pipeline import progress
from afina.pipeline.language.prompts import PromptReader
from afina.pipeline.language.speaker import Speaker
from afina.pipeline.progress import show_bar, show_lines
from afina.testing.data import make_conversations

ROWS: list[dict[str, Any]] = [
    {"messages": row["messages"][:1] if i % 5 else None, "id": i}
    for i, row in enumerate(make_conversations("messages", 40, seed=7))
]
ASKED = [row for row in ROWS if row["messages"]]
BATCHES = len(ASKED) // PROMPTS_AT_ONCE
SHORT = {"max_new_tokens": 3, "verbose": False}


@pytest.fixture(scope="module")
def run(tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> afina.Run:
    """A language model that was tuned for a moment."""
    rows, folder = make_conversations("messages", 24), tmp_path_factory.mktemp("runs") / "run"
    return afina.fit(
        tiny_models("llama"), rows, "full", output=folder,
        num_train_epochs=1, precision="fp32", bootstrap_resamples=0, max_seq_length=120, generation_samples=0,
        general_text=False, chat_template="chatml", verbose=False,
    )  # fmt: skip


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "asked.jsonl", ROWS)


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """`stop_after(batches)`: the next batch is stopped by ^C; gives the list of the batches' sizes."""
    answer_batch, sizes = Speaker.answer_batch, list[int]()

    def arrange(batches: int) -> list[int]:
        def answer(self: Speaker, prompts: Any, decoding: Any, *listeners: Any) -> Any:
            if len(sizes) == batches:
                raise KeyboardInterrupt
            sizes.append(len(prompts))
            return answer_batch(self, prompts, decoding, *listeners)

        sizes.clear()
        monkeypatch.setattr(Speaker, "answer_batch", answer)
        return sizes

    return arrange


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([{"messages": [{"role": "user", "content": 5}]}], "rows with a message whose content isn't text"),
        ([{"other": "a"}], "has no column 'messages'"),
        ([{"messages": [{"role": "user", "content": "long " * 200}]}], "rows with a prompt that leaves no room"),
    ],
)
def test_bad_rows_are_refused_before_the_model_is_loaded(
    rows: list[Any], wrong: str, run: afina.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path / "bad.jsonl", rows)
    monkeypatch.setattr(Speaker, "of_run", None)
    with pytest.raises(DataError) as caught:
        afina.predict_file(run.path, path, tmp_path / "out.jsonl", **SHORT)
    assert wrong in str(caught.value)
    assert not (tmp_path / "out.jsonl").exists()


def test_rows_keep_their_order_and_columns(run: afina.Run, asked: Path, tmp_path: Path) -> None:
    assert BATCHES == 4
    path, rows, empty = afina.predict_file(run.path, asked, tmp_path / "out.jsonl", **SHORT)
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert (rows, len(found)) == (40, 40)
    assert empty == [number for number, row in enumerate(found, 1) if row["prediction"] is None]
    assert len(empty) == 8
    assert [{key: row[key] for key in ("messages", "id")} for row in found] == ROWS
    alone = {row["id"]: run.generate([row["messages"]], 3)[0] for row in ASKED}
    assert [row["prediction"] for row in found] == [alone.get(row["id"]) for row in ROWS]
    assert afina.predict(run.path, ROWS, max_new_tokens=3) == found
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["asked.jsonl", "out.jsonl"]


@pytest.mark.parametrize("more", [{}, {"temperature": 2.0, "seed": 3}])
def test_stopped_work_goes_on_to_the_same_answers(
    run: afina.Run, asked: Path, tmp_path: Path, stop_after: Callable[[int], list[int]], more: dict[str, Any]
) -> None:
    stop_after(99)
    whole = afina.predict_file(run.path, asked, tmp_path / "whole.jsonl", **SHORT, **more)[0].read_bytes()
    out, journal = tmp_path / "out.jsonl", tmp_path / ".out.jsonl.answers"
    stop_after(2)
    with pytest.raises(Interrupted) as caught:
        afina.predict_file(run.path, asked, out, **SHORT, **more)
    assert str(caught.value) == (
        f"interrupted\n  found: 16 of 32 rows are answered, and kept in {journal}\n"
        "  do: the same command again: it goes on from there"
    )
    assert (caught.value.exit_code, out.exists()) == (130, False)
    journal.write_bytes(journal.read_bytes()[:-9])  # as a kill leaves it
    sizes = stop_after(99)
    afina.predict_file(run.path, asked, out, **SHORT, **more)
    assert sizes == [8, 8, 8]
    assert out.read_bytes() == whole
    assert not journal.exists()


def test_other_work_begins_anew_and_says_so(
    run: afina.Run, asked: Path, tmp_path: Path, stop_after: Callable[[int], list[int]],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out.jsonl"
    for change in ("seed", "rows", "nothing"):
        stop_after(1)
        with pytest.raises(Interrupted):
            afina.predict_file(run.path, asked, out, **SHORT)
        if change == "rows":
            write_lines(asked, [{"messages": [{"role": "user", "content": "new"}]}, *ROWS])
        sizes = stop_after(99)
        more = {"seed": 1} if change == "seed" else {}
        capsys.readouterr()
        afina.predict_file(run.path, asked, out, **{**SHORT, **more, "verbose": True})
        said = capsys.readouterr().err
        assert ("held answers of other work" in said) is (change != "nothing")
        assert ("going on: 8 of 33 rows are answered in" in said) is (change == "nothing")
        assert sum(sizes) == {"seed": 32, "rows": 33, "nothing": 25}[change]
        out.unlink()


def test_bad_rows_are_told_before_anything_is_answered(
    run: afina.Run, tmp_path: Path, stop_after: Callable[[int], list[int]]
) -> None:
    bad = [
        {"messages": [{"role": "user", "content": "x" * 200}]},
        {"messages": [{"role": "narrator", "content": "x"}]},
        {"messages": [{"content": "x"}]},
        {"messages": [{"role": "narrator", "content": "y"}]},
    ]
    path, sizes = write_lines(tmp_path / "bad.jsonl", [*ASKED, *bad]), stop_after(0)
    with pytest.raises(DataError) as caught:
        afina.predict_file(run.path, path, tmp_path / "out.jsonl", **SHORT)
    whats = [problem.what.removeprefix("bad.jsonl: ") for problem in caught.value.problems]
    assert whats == [
        "rows with a prompt that leaves no room for an answer", "rows with a message of an unknown role",
        "rows with a message without role and content",
    ]  # fmt: skip
    assert [list(problem.rows) for problem in caught.value.problems] == [[33], [34, 36], [35]]
    assert sizes == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.jsonl"]


def test_answers_that_the_window_ends_are_named(
    run: afina.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = {"messages": [{"role": "user", "content": "a" * 70}]}
    path = write_lines(tmp_path / "long.jsonl", [ASKED[0], long, long])
    afina.predict_file(run.path, path, tmp_path / "out.jsonl", max_new_tokens=10)
    said = " ".join(capsys.readouterr().err.split())
    assert "2 answers ended where the model's window of 128 tokens ends (rows 2, 3)" in said


def test_settings_of_answers_are_refused_for_labels(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    task = {
        "task": "text-classification", "labels": {"kind": "multiclass", "names": ["a", "b"]}, "fit": {},
        "columns": {"text": "text", "text_pair": None, "label": "label"}, "base": {"reference": "b", "revision": None},
    }  # fmt: skip
    (tmp_path / "task.json").write_text(json.dumps(task))
    with pytest.raises(ConfigError, match="gives labels, no answers"):
        afina.predict(tmp_path, ROWS, temperature=1.0)


USER, SYSTEM = {"role": "user", "content": "a"}, {"role": "system", "content": "s"}
INSTRUCTION = {"instruction": "i", "input": "n", "system": "s", "output": "o"}
READINGS: list[tuple[Any, dict[str, str], bool, dict[str, Any], Any]] = [
    ("messages", {"messages": "m"}, True, {"m": [USER, {"role": "assistant", "content": "b"}]}, ([USER], None)),
    ("messages", {"messages": "m"}, True, {"m": [{"from": "usuario", "value": "a"}]}, ([USER], None)),
    ("messages", {"messages": "m"}, True, {"m": json.dumps([USER])}, ([USER], None)),
    ("messages", {"messages": "m"}, True, {"m": "plain"}, ("plain", None)),
    ("messages", {"messages": "m"}, True, {"m": "[1]"}, ("[1]", None)),
    ("messages", {"messages": "m", "tools": "t"}, True, {"m": [USER], "t": [{"a": 1}]}, ([USER], [{"a": 1}])),
    ("messages", {"prompt": "p", "completion": "c"}, True, {"p": [SYSTEM, USER]}, ([SYSTEM, USER], None)),
    ("messages", {"messages": "m"}, True, {"m": []}, None),
    ("messages", {"messages": "m"}, True, {"m": " "}, None),
    ("completion", {"prompt": "p", "completion": "c"}, True, {"p": "a"}, ([USER], None)),
    ("completion", {"prompt": "p", "completion": "c"}, False, {"p": "a"}, ("a", None)),
    ("completion", {"prompt": "p", "completion": "c"}, False, {"p": None}, None),
    ("instruction", {key: key for key in INSTRUCTION}, True, INSTRUCTION,
     ([SYSTEM, {"role": "user", "content": "i\n\nn"}], None)),
    ("instruction", {key: key for key in INSTRUCTION}, False, {"instruction": "i"}, ("i\n", None)),
    ("text", {"text": "x"}, False, {"x": "a"}, ("a", None)),
]  # fmt: skip


@pytest.mark.parametrize(("form", "columns", "has_template", "row", "asked"), READINGS)
def test_what_a_row_asks(form: Any, columns: dict[str, str], has_template: bool, row: Any, asked: Any) -> None:
    assert PromptReader(form, columns, has_template).read(row) == asked


@pytest.mark.parametrize(("form", "value"), [("text", 5), ("messages", 5), ("messages", [1])])
def test_what_is_no_prompt(form: Any, value: Any) -> None:
    with pytest.raises(ConversationFaultError):
        PromptReader(form, {form: "x"}, form == "messages").read({"x": value})


def test_lines_tell_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    console = Console(file=io.StringIO(), width=200)
    with show_lines(console, "answering", 1000, 400) as advance:
        for done in range(420, 600, 20):
            now += 4.0
            advance(done)
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "answering 460/1,000  5 rows/s  about 108 s left", "answering 520/1,000  5 rows/s  about 96 s left",
        "answering 580/1,000  5 rows/s  about 84 s left",
    ]  # fmt: skip


def test_a_bar_in_a_terminal_goes_away() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with show_bar(console, "answering", 10, 2) as advance:
        advance(5)
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "answering" in written
    assert "5/10" in written
