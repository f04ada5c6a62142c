"""The help of every verb says what each flag takes, in the words of the schema."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from afina.cli.app import app
from afina.config.kinds import describe_kind
from afina.config.load import list_fields

VERBS = ("train", "resume", "evaluate", "predict", "chat", "check", "compare", "runs", "merge")


def read_help(verb: str) -> str:
    """In one line, and of a terminal so wide that no word is broken at a hyphen."""
    return " ".join(CliRunner().invoke(app, [verb, "--help"], terminal_width=1000).output.split())


@pytest.mark.parametrize("verb", ["train", "check"])
def test_flags_say_what_their_settings_take(verb: str) -> None:
    text = read_help(verb)
    fields = {path.rpartition(".")[2]: field for path, field in list_fields().items() if path != "data.path"}
    flags = [name for name in re.findall(r"--([a-z-]+) [A-Z]+", text) if name.replace("-", "_") in fields]
    assert len(flags) >= {"train": 18, "check": 2}[verb]
    for flag in flags:
        kind = describe_kind(fields[flag.replace("-", "_")])
        entry = re.split(r" --[a-z]", text.partition(f"--{flag} ")[2])[0]
        assert kind == "text" or kind in entry, f"--{flag}: {entry}"


@pytest.mark.parametrize("verb", VERBS)
def test_no_flag_shows_a_type_of_python(verb: str) -> None:
    assert not re.search(r"--[a-z-]+ <", read_help(verb))
