"""Rows, labels and names that would like to be more than text: HTML for the report, commands for the terminal."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from afina.testing.data import make_conversations, make_rows

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine, Done

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
HTML = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
NAME = "<svg onload=alert(3)>.csv"
SETTINGS = ("--set", "precision=fp32", "--set", "bootstrap_resamples=10", "--set", "num_train_epochs=1")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def place(tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, write_csv: Any) -> Path:
    folder = tmp_path_factory.mktemp("place")
    for family in ("bert", "llama"):
        shutil.copytree(tiny_models(family), folder / family)
    rows = [
        {"text": f"{row['text']} {HTML} {ESCAPES if i % 3 else ''}", "label": f"{row['label']}{HTML}{ESCAPES}"}
        for i, row in enumerate(make_rows("multiclass", 60))
    ]
    write_csv(folder / NAME, rows)
    write_csv(folder / "strange.csv", [{"text": "a", "label": f"new{ESCAPES}"}])
    return folder


@pytest.fixture(scope="module")
def trained(place: Path, command_line: CommandLine) -> Done:
    return command_line.run(
        "train", NAME, "--model", "bert", "--technique", "full", "--output", "run", "--set", "on_findings=warn",
        *SETTINGS, cwd=place,
    )  # fmt: skip


def assert_tame(done: Done, code: int = 0) -> None:
    assert done.code == code, done.err
    for text in (done.out, done.err):
        assert not CONTROL.search(text), repr(CONTROL.search(text))


def test_nothing_of_the_rows_commands_the_terminal(place: Path, trained: Done, command_line: CommandLine) -> None:
    assert_tame(trained)
    assert_tame(command_line.run("check", NAME, cwd=place), 0)
    assert_tame(command_line.run("check", NAME, "--json", cwd=place), 0)
    assert_tame(command_line.run("evaluate", "run", NAME, cwd=place))
    assert_tame(command_line.run("compare", "run", "run", cwd=place), 0)
    refused = command_line.run("evaluate", "run", "strange.csv", cwd=place)
    assert_tame(refused, 2)
    assert_tame(command_line.run("train", f"no{ESCAPES}.csv", "--model", "bert", cwd=place), 2)
    assert_tame(command_line.run("train", NAME, "--model", f"no{ESCAPES}", cwd=place), 2)
    assert_tame(command_line.run("train", NAME, "--model", "bert", "--label-column", ESCAPES, cwd=place), 2)
    assert_tame(command_line.run("train", NAME, "--model", "bert", "--set", f"seed={ESCAPES}", cwd=place), 2)


def test_nothing_of_the_rows_is_html(place: Path, trained: Done, command_line: CommandLine) -> None:
    assert trained.code == 0, trained.err
    assert command_line.run("check", NAME, "--html", "check.html", cwd=place).code == 0
    for page in (place / "run" / "report.html", place / "check.html"):
        text = page.read_text(encoding="utf-8")
        assert "alert(1)" in text, "the rows are shown"
        assert not re.search(r"<\s*(script|img|iframe|object|svg onload)", text, re.IGNORECASE)
        assert not re.search(r"<[^>]*\son\w+\s*=", text)
        assert "Content-Security-Policy\" content=\"default-src 'none'; " in text


def test_a_conversation_commands_nothing(place: Path, command_line: CommandLine) -> None:
    rows = make_conversations("messages", 40)
    for row in rows:
        row["messages"][-1]["content"] += ESCAPES + HTML
    (place / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = command_line.run(
        "train", "chats.jsonl", "--model", "llama", "--technique", "lora", "--output", "chats", "--chat-template",
        "chatml", "--set", "max_seq_length=200", "--set", "max_new_tokens=4", "--set", "on_findings=warn",
        *SETTINGS, cwd=place,
    )  # fmt: skip
    assert_tame(done)
    shown = command_line.run(
        "check", "chats.jsonl", "--model", "llama", "--chat-template", "chatml", "--show-mask", "1", cwd=place
    )
    assert_tame(shown)
    assert "\\x1b[2J" in shown.out
    assert "<script" not in (place / "chats" / "report.html").read_text(encoding="utf-8")


def test_an_answer_commands_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """`afina chat` tells an answer through this."""
    from afina.cli.chat import tell

    tell(f"an answer{ESCAPES}")
    assert capsys.readouterr().out == "an answer\\x1b[2J\\x1b]0;owned\\x07\\x9b31m\\u202e"
