"""What the parser of the command line refuses is said in the same form as everything else."""

from __future__ import annotations

import sys

import pytest

from afina.cli.app import run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["plan", "rows.csv", "--technique"],
            "afina: the option --technique needs a value\n  found: in afina plan\n  do: --technique VALUE\n",
        ),
        (
            ["train", "rows.csv", "--lora-r", "8"],
            "afina: no such option: --lora-r\n  found: in afina train\n  do: --r VALUE\n",
        ),
        (
            ["predict", "run", "rows.csv", "--technique", "lora"],
            "afina: no such option: --technique\n  found: in afina predict\n"
            "  do: afina predict --help shows what it takes\n",
        ),
        (["predict"], "afina: missing argument 'RUN'\n  found: in afina predict\n"
                      "  do: afina predict --help shows what it takes\n"),
        (["runs", "a" * 300], f"afina: the name of a file or folder is too long\n  found: {'a' * 300}\n"
                              "  do: give a shorter one\n"),
        (["nope"], "afina: no such command 'nope'\n  found: in afina\n  do: afina --help shows what it takes\n"),
    ],
)  # fmt: skip
def test_wrong_usage_has_our_form(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["afina", *arguments])
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == 2
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0), (["--version"], 0), (["runs"], 0)])
def test_everything_else_ends_as_before(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["afina", *arguments])
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == code
    printed = capsys.readouterr()
    assert bool(printed.err) == (not arguments)
    assert bool(printed.out) == bool(arguments)
