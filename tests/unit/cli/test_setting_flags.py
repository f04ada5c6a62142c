"""Any setting can be written as a flag, so that no error names a flag that its verb lacks."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from afina.cli.app import app
from afina.cli.setting_flags import SHOWN, spell_settings

OWN = ("--model", "--set", "--json")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (["--weight-decay", "0.1"], ["--set", "weight_decay=0.1"]),
        (["--weight-decay=0.1"], ["--set", "weight_decay=0.1"]),
        (["rows.csv", "--prompt-column", "a b", "--json"], ["rows.csv", "--set", "prompt_column=a b", "--json"]),
        (["--text-pair-column=--odd"], ["--set", "text_pair_column=--odd"]),
        (["--text-pair-column", "--odd"], ["--text-pair-column", "--odd"]),
        (["--gradient-checkpointing", "--model", "m"], ["--set", "gradient_checkpointing=true", "--model", "m"]),
        (["--gradient-checkpointing", "false", "x"], ["--set", "gradient_checkpointing=false", "x"]),
        (["--gradient-checkpointing", "False"], ["--set", "gradient_checkpointing=False"]),
        (["--packing", "no", "x"], ["--set", "packing=no", "x"]),
        (["--output", "x", "--path", "y"], ["--output", "x", "--path", "y"]),
        (["--gradient-checkpointing"], ["--set", "gradient_checkpointing=true"]),
        (["--text-pair-column", ""], ["--set", "text_pair_column="]),
        (["--model", "--weight-decay"], ["--model", "--weight-decay"]),
        (["--weight-decay"], ["--weight-decay"]),
        (["--nonsense", "1"], ["--nonsense", "1"]),
        (["--", "--weight-decay", "0.1"], ["--", "--weight-decay", "0.1"]),
    ],
)  # fmt: skip
def test_a_setting_becomes_a_set(written: list[str], meant: list[str]) -> None:
    assert list(spell_settings(written, OWN)) == meant


def test_the_folder_of_a_run_is_a_flag_of_verbs_that_make_runs() -> None:
    assert list(spell_settings(["--output", "x"], OWN, ["output"])) == ["--set", "output=x"]


@pytest.mark.parametrize("verb", ["train", "search", "plan", "check"])
def test_help_lists_settings_that_the_verb_takes(verb: str) -> None:
    command = typer.main.get_group(app).commands[verb]
    assert command.shown
    for name in command.shown:
        flag = f"--{name.replace('_', '-')}"
        assert list(spell_settings([flag, "x"], OWN, command.shown)) == ["--set", f"{name}=x"]
        assert f"{flag} {SHOWN[name][0]}" in CliRunner().invoke(app, [verb, "--help"]).output
