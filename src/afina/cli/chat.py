"""afina chat"""

from __future__ import annotations

import sys
from typing import Any

import typer

HELP = "An empty line or ^D ends it; /new begins a new conversation."


def chat(
    model: str = typer.Argument(
        ..., metavar="RUN|REF", help="Folder of a finished run, or a model: folder, Hub id, .gguf, package:..."
    ),
    system: str | None = typer.Option(None, metavar="TEXT", help="What the system message says."),
    max_new_tokens: int = typer.Option(256, min=1, metavar="N", help="Tokens of an answer at most."),
) -> None:
    """Talk to a language model; its words appear as they come."""
    from afina.api import open_chat

    speaker = open_chat(model)
    print(HELP, file=sys.stderr)
    beginning = [{"role": "system", "content": system}] if system else []
    messages: list[dict[str, Any]] = list(beginning)
    while True:
        said = ask_person()
        if not said:
            return
        if said == "/new":
            messages = list(beginning)
            continue
        messages.append({"role": "user", "content": said})
        prompt: Any = messages if speaker.has_template else said
        answer = speaker.stream(prompt, tell, max_new_tokens)
        print(flush=True)
        messages.append({"role": "assistant", "content": answer})


def ask_person() -> str:
    """The next line; empty at the end. The mark before it is for people, so it isn't on stdout."""
    if sys.stdin.isatty():
        print("> ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def tell(text: str) -> None:
    """Print a piece of the answer at once."""
    print(text, end="", flush=True)
