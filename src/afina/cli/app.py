"""The verbs in one place, and how any of them ends: exit code, message, no traceback for what a user did."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from afina import __version__
from afina.cli import (
    Stopped,
    chat,
    check,
    compare,
    evaluate,
    merge,
    plan,
    predict,
    received,
    reproduce,
    resume,
    runs,
    search,
    train,
)
from afina.cli.setting_flags import SettingsCommand, mend_flag, show_settings
from afina.errors import AfinaError, Interrupted
from afina.terminal import make_printable
from afina.wording import speak_as_command_line

# Typer names only this one of the errors of its parser, all of which have the same base.
UsageError = typer.BadParameter.__bases__[0]


class Halted(Exception):
    """An `Interrupted` on its way through typer, which would make something else of a KeyboardInterrupt."""

    def __init__(self, stop: Interrupted) -> None:
        super().__init__(str(stop))
        self.exit_code = stop.exit_code


class Verbs(TyperGroup):
    """The verbs, of which one may be interrupted."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Interrupted as stop:
            raise Halted(stop) from None


app = typer.Typer(
    name="afina",
    cls=Verbs,
    help="Fine-tune a pretrained model on your own data, and learn whether the result is any good.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command(name="train", cls=show_settings(*train.SETTINGS))(train.train)
app.command(name="search", cls=show_settings(*search.SETTINGS))(search.search)
app.command(name="resume")(resume.resume)
app.command(name="reproduce")(reproduce.reproduce)
app.command(name="evaluate")(evaluate.evaluate)
app.command(name="predict")(predict.predict)
app.command(name="chat")(chat.chat)
app.command(name="plan", cls=show_settings(*plan.SETTINGS))(plan.plan)
app.command(name="check", cls=show_settings(*check.SETTINGS))(check.check)
app.command(name="compare")(compare.compare)
app.command(name="runs")(runs.runs)
app.command(name="merge")(merge.merge)


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        print(f"afina {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=show_version, is_eager=True),
) -> None:
    """Options of afina itself."""


def run() -> None:
    """Run the verb that was asked for, and exit with its code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        with speak_as_command_line():
            sys.exit(app(prog_name="afina", standalone_mode=False) or 0)
    except Exception as error:
        if received and not isinstance(error, Halted):
            # A library turned what interrupted its import into an error of its own.
            raise Stopped(received[0]) from None
        end_with(error)


def end_with(error: Exception) -> NoReturn:
    """Print what went wrong, and exit with its code."""
    if isinstance(error, AfinaError | Halted):
        print_error(str(error))
        sys.exit(error.exit_code)
    if isinstance(error, UsageError):
        end_with_usage(error)
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()
        sys.exit(1)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        print_error(f"the disk is full: {error}\n  do: free some space, or --output on another disk")
        sys.exit(2)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        print_error(f"the name of a file or folder is too long\n  found: {error.filename}\n  do: give a shorter one")
        sys.exit(2)
    report_bug(error)


def end_with_usage(error: Any) -> NoReturn:
    """Print in our own words what the parser of the command line refuses, and exit with 2."""
    text, command = error.format_message(), error.ctx.command_path if error.ctx else "afina"
    if text.startswith("Usage:"):  # no arguments at all: the text is the help
        print(text, file=sys.stderr)
        sys.exit(2)
    what, remedy = text[0].lower() + text[1:].rstrip("."), f"{command} --help shows what it takes"
    if error.ctx and isinstance(error.ctx.command, SettingsCommand):
        flag = getattr(error, "option_name", "") or ""
        what, remedy = mend_flag(flag, what, remedy, error.ctx.command.shown)
    print_error(f"{what}\n  found: in {command}\n  do: {remedy}")
    sys.exit(2)


def report_bug(error: Exception) -> NoReturn:
    """Say that the fault is ours, and how to see where; exits with 1."""
    if os.environ.get("AFINA_TRACEBACK"):
        traceback.print_exception(error)
    text = str(error).strip().split("\n")[0]
    print_error(
        f"unexpected {type(error).__name__}: {text}\n"
        "  do: please report it; AFINA_TRACEBACK=1 afina ... shows where it happened"
    )
    sys.exit(1)


def print_error(text: str) -> None:
    """One message on stderr."""
    print(make_printable(f"afina: {text}"), file=sys.stderr)
