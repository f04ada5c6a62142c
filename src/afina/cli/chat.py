"""afina chat"""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from afina.cli.decoding import ANSWER_SEED, MAX_NEW_TOKENS, TEMPERATURE, TOP_P, collect_decoding
from afina.cli.output import show
from afina.errors import ConfigError, DataError
from afina.terminal import make_printable

if TYPE_CHECKING:
    from afina.pipeline.language.decoding import Decoding
    from afina.pipeline.language.speaker import Speaker

HELP = "An empty line, ^D or /exit ends it, ^C an answer; /new begins a new conversation, /help says this again."
# As other programs for talking to a model call it.
ENDS = ("", "/exit", "/quit", "/bye")


def chat(
    model: str = typer.Argument(
        ..., metavar="RUN|REF", help="Folder of a finished run, or a model: folder, Hub id, .gguf, package:..."
    ),
    chat_template: str | None = typer.Option(
        None, metavar="NAME", help="Of a published model: auto, chatml, none, or path of a Jinja file."
    ),
    chat_template_kwargs: str | None = typer.Option(
        None, metavar="MAPPING", help="Its arguments: a mapping such as {key: value}."
    ),
    system: str | None = typer.Option(None, metavar="TEXT", help="What the system message says."),
    max_new_tokens: int | None = MAX_NEW_TOKENS,
    temperature: float | None = TEMPERATURE,
    top_p: float | None = TOP_P,
    seed: int | None = ANSWER_SEED,
) -> None:
    """Talk to a language model; its words appear as they come."""
    from afina.config.load import parse_override
    from afina.finished import open_chat
    from afina.pipeline.language.decoding import Decoding

    decoding = Decoding(**collect_decoding(max_new_tokens, temperature, top_p, seed))
    given = {"chat_template": chat_template, "chat_template_kwargs": chat_template_kwargs}
    speaker = open_chat(model, **dict(parse_override(f"{name}={value}") for name, value in given.items() if value))
    if system and not speaker.has_template:
        raise ConfigError("the model has no chat template, so nothing can be a system message", remedy="no --system")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    print(HELP, file=sys.stderr)
    beginning = [{"role": "system", "content": system}] if system else []
    conversation = Conversation(speaker, decoding, beginning)
    while (said := ask_person()) not in ENDS:
        if said == "/new":
            conversation.begin()
        elif said == "/help":
            print(HELP, file=sys.stderr)
        else:
            conversation.ask(said)
    if conversation.refused and not sys.stdin.isatty():
        raise typer.Exit(2)  # nobody has seen it


class Conversation:
    """A conversation with a model, from one beginning to the next.

    Args:
        beginning: the messages that each conversation begins with.
    """

    def __init__(self, speaker: Speaker, decoding: Decoding, beginning: Sequence[dict[str, Any]]) -> None:
        self.speaker, self.decoding, self.beginning = speaker, decoding, beginning
        self.asked = self.refused = 0
        self.begin()

    def begin(self) -> None:
        """Forget what was said."""
        self.messages: list[dict[str, Any]] = list(self.beginning)

    def ask(self, said: str) -> None:
        """Print the answer as it comes. A question that can't be answered is forgotten; ^C ends an answer, not the
        conversation: what was said of it until then stays."""
        self.messages.append({"role": "user", "content": said})
        number, self.asked = self.asked, self.asked + 1
        cut: list[int] = []
        pieces: list[str] = []

        def tell_piece(text: str) -> None:
            pieces.append(text)
            tell(text)

        prompt: Any = self.messages if self.speaker.has_template else said
        try:
            with end_answer_at_interrupt():
                answer = self.speaker.stream(prompt, tell_piece, self.decoding, number, cut.append)
        except DataError as error:  # too long for the model, or refused by its template
            self.refused += 1
            show(f"{error}\n  do: ask something else; /new begins a new conversation", on_stderr=True)
            self.messages.pop()
            return
        except KeyboardInterrupt:
            answer = "".join(pieces)
            print("\n(stopped; ^C once more, or an empty line, ends the conversation)", file=sys.stderr)
        print(flush=True)
        if cut:
            print("(the model's window ends here; /new begins a new conversation)", file=sys.stderr)
        if answer.strip():
            self.messages.append({"role": "assistant", "content": answer})
        else:  # a turn without words can't stand in a conversation
            print("(no answer; the question is forgotten)", file=sys.stderr)
            self.messages.pop()


@contextlib.contextmanager
def end_answer_at_interrupt() -> Iterator[None]:
    """A context in which ^C raises KeyboardInterrupt, and ends no more than what goes on there; only where a person
    types: who stops a pipe means all of it."""
    if not sys.stdin.isatty():
        yield
        return
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def ask_person() -> str:
    """The next line; empty at the end. The mark before it is for people, so it isn't on stdout.

    Bytes that are not UTF-8 come through as halves of surrogate pairs, which the model's reader of prompts refuses: the
    conversation stays.
    """
    if sys.stdin.isatty():
        print("> ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def tell(text: str) -> None:
    """Print a piece of the answer at once."""
    print(make_printable(text), end="", flush=True)
