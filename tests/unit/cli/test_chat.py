"""A conversation: ^C ends an answer and not all of it, and what was refused is told by the exit code of a pipe."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer

from afina.cli import Stopped, forget_stop, raise_stopped, received
from afina.cli import chat as module
from afina.cli.chat import HELP, Conversation, chat
from afina.errors import DataError


class FakeSpeaker:
    """Says one word after the other of what it was given; `^C` among them is one, `refuse` a question of no use."""

    has_template = True

    def __init__(self, *answers: str) -> None:
        self.answers, self.prompts = list(answers), []

    def stream(self, prompt: Any, tell: Callable[[str], None], decoding: Any, number: int, on_cut: Any) -> str:
        self.prompts.append((number, list(prompt)))
        answer = self.answers.pop(0)
        if answer == "refuse":
            raise DataError("the prompt is of no use")
        for word in answer.split():
            if word == "^C":
                os.kill(os.getpid(), signal.SIGINT)
            else:
                tell(f"{word} ")
        return answer


def converse(*answers: str, beginning: list[dict[str, Any]] | None = None) -> tuple[Conversation, FakeSpeaker]:
    speaker: Any = FakeSpeaker(*answers)
    decoding: Any = None
    return Conversation(speaker, decoding, beginning or []), speaker


@pytest.fixture
def sit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """`sit(is_there)`: whether somebody types, with the command line's own handler of ^C."""
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    hook = sys.unraisablehook

    def begin(is_there: bool) -> None:
        typed = io.StringIO()
        monkeypatch.setattr(typed, "isatty", lambda: is_there)
        monkeypatch.setattr(module.sys, "stdin", typed)
        signal.signal(signal.SIGINT, raise_stopped)

    yield begin
    forget_stop()
    received.clear()
    sys.unraisablehook = hook
    for number, handler in usual.items():
        signal.signal(number, handler)


def test_an_interrupt_ends_the_answer_and_keeps_what_was_said(
    sit: Callable[[bool], None], capsys: pytest.CaptureFixture[str]
) -> None:
    sit(True)
    conversation, speaker = converse("one two ^C three", "four")
    conversation.ask("count")
    shown = capsys.readouterr()
    assert shown.out == "one two \n"
    assert signal.getsignal(signal.SIGINT) is raise_stopped
    assert "(stopped; ^C once more" in shown.err
    conversation.ask("go on")
    assert speaker.prompts[1] == (1, [
        {"role": "user", "content": "count"}, {"role": "assistant", "content": "one two "},
        {"role": "user", "content": "go on"},
    ])  # fmt: skip


def test_an_interrupt_of_a_pipe_ends_all_of_it(sit: Callable[[bool], None]) -> None:
    sit(False)
    conversation, _ = converse("one ^C two")
    with pytest.raises(Stopped):
        conversation.ask("count")


@pytest.mark.parametrize("answer", ["^C", "", "refuse"])
def test_a_question_without_an_answer_is_forgotten(answer: str, sit: Callable[[bool], None]) -> None:
    sit(True)
    beginning = [{"role": "system", "content": "be brief"}]
    conversation, _ = converse("fine", answer, beginning=beginning)
    conversation.ask("how are you")
    before = list(conversation.messages)
    conversation.ask("and now")
    assert conversation.messages == before
    assert conversation.refused == (answer == "refuse")
    conversation.begin()
    assert conversation.messages == beginning


@pytest.mark.parametrize("end", ["", "/exit", "/quit", "/bye"])
def test_words_for_the_program_do_not_reach_the_model(
    end: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    speaker = FakeSpeaker("yes", "no")
    monkeypatch.setattr("afina.finished.open_chat", lambda *_, **__: speaker)
    monkeypatch.setattr(module.sys, "stdin", io.StringIO(f"one\n/help\n/new\n/usr/bin\n{end}\nnever\n"))
    chat("run", None, None, None, max_new_tokens=None, temperature=None, top_p=None, seed=None)
    assert [prompt[-1]["content"] for _, prompt in speaker.prompts] == ["one", "/usr/bin"]
    assert capsys.readouterr().err == f"{HELP}\n{HELP}\n"


@pytest.mark.parametrize(("answers", "is_refused"), [(("yes", "refuse"), True), (("yes", "no"), False)])
def test_a_pipe_with_a_refused_question_fails(
    answers: tuple[str, ...], is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("afina.finished.open_chat", lambda *_, **__: FakeSpeaker(*answers))
    monkeypatch.setattr(module.sys, "stdin", io.StringIO("one\ntwo\n\n"))
    given: dict[str, Any] = {"max_new_tokens": None, "temperature": None, "top_p": None, "seed": None}
    if not is_refused:
        chat("run", None, None, None, **given)
        return
    with pytest.raises(typer.Exit) as caught:
        chat("run", None, None, None, **given)
    assert caught.value.exit_code == 2
