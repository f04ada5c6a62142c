"""afina chat"""

from __future__ import annotations

import io
import itertools
import sys
from typing import Any

import typer

from afina.cli.decoding import ANSWER_SEED, MAX_NEW_TOKENS, TEMPERATURE, TOP_P, collect_decoding
from afina.cli.output import show
from afina.errors import ConfigError, DataError
from afina.terminal import make_printable

HELP = "An empty line or ^D ends it; /new begins a new conversation."


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
    from afina.api import open_chat
    from afina.config.load import parse_override
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
    messages: list[dict[str, Any]] = list(beginning)
    for number in itertools.count():
        said = ask_person()
        if not said:
            return
        if said == "/new":
            messages = list(beginning)
            continue
        messages.append({"role": "user", "content": said})
        cut: list[int] = []
        prompt: Any = messages if speaker.has_template else said
        try:
            answer = speaker.stream(prompt, tell, decoding, number, cut.append)
        except DataError as error:  # too long for the model, or refused by its template
            show(f"{error}\n  do: ask something else; /new begins a new conversation", on_stderr=True)
            messages.pop()
            continue
        print(flush=True)
        if cut:
            print("(the model's window ends here; /new begins a new conversation)", file=sys.stderr)
        if answer:
            messages.append({"role": "assistant", "content": answer})
        else:  # a turn without words can't stand in a conversation
            print("(no answer; the question is forgotten)", file=sys.stderr)
            messages.pop()


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
