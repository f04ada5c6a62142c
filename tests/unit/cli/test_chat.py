"""A conversation: ^C ends an answer and not all of it, and what was refused is told by the exit code of a pipe."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import typer

from afina.cli import chat as module
from afina.cli.chat import Conversation, chat
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
                raise KeyboardInterrupt
            tell(f"{word} ")
        return answer


def converse(*answers: str, beginning: list[dict[str, Any]] | None = None) -> tuple[Conversation, FakeSpeaker]:
    speaker: Any = FakeSpeaker(*answers)
    decoding: Any = None
    return Conversation(speaker, decoding, beginning or []), speaker


def test_an_interrupt_ends_the_answer_and_keeps_what_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    conversation, speaker = converse("one two ^C three", "four")
    conversation.ask("count")
    shown = capsys.readouterr()
    assert shown.out == "one two \n"
    assert "(stopped; ^C once more" in shown.err
    conversation.ask("go on")
    assert speaker.prompts[1] == (1, [
        {"role": "user", "content": "count"}, {"role": "assistant", "content": "one two "},
        {"role": "user", "content": "go on"},
    ])  # fmt: skip


@pytest.mark.parametrize("answer", ["^C", "", "refuse"])
def test_a_question_without_an_answer_is_forgotten(answer: str) -> None:
    beginning = [{"role": "system", "content": "be brief"}]
    conversation, _ = converse("fine", answer, beginning=beginning)
    conversation.ask("how are you")
    before = list(conversation.messages)
    conversation.ask("and now")
    assert conversation.messages == before
    assert conversation.refused == (answer == "refuse")
    conversation.begin()
    assert conversation.messages == beginning


@pytest.mark.parametrize(("answers", "is_refused"), [(("yes", "refuse"), True), (("yes", "no"), False)])
def test_a_pipe_with_a_refused_question_fails(
    answers: tuple[str, ...], is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("afina.api.open_chat", lambda *_, **__: FakeSpeaker(*answers))
    monkeypatch.setattr(module.sys, "stdin", io.StringIO("one\ntwo\n\n"))
    given: dict[str, Any] = {"max_new_tokens": None, "temperature": None, "top_p": None, "seed": None}
    if not is_refused:
        chat("run", None, None, None, **given)
        return
    with pytest.raises(typer.Exit) as caught:
        chat("run", None, None, None, **given)
    assert caught.value.exit_code == 2
