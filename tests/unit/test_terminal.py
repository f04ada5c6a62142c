"""What comes from outside reaches a terminal with its control characters spelled out."""

from __future__ import annotations

import json

import pytest

from afina.terminal import make_printable, make_printable_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünïcode 😀\tand\nlines", "plain, ünïcode 😀\tand\nlines"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x1b]52;c;ZXZpbA==\x1b\\", "\\x1b]52;c;ZXZpbA==\\x1b\\"),
        ("over\rwritten\b\x7f", "over\\x0dwritten\\x08\\x7f"),
        ("\x9b31m", "\\x9b31m"),
        ("safe\u202etxt.exe\u2066", "safe\\u202etxt.exe\\u2066"),
        ("\ud800", "\\ud800"),
    ],
)
def test_control_characters_are_spelled_out(text: str, shown: str) -> None:
    assert make_printable(text) == shown
    assert make_printable(shown) == shown


def test_json_means_the_same() -> None:
    value = {"a\x1b\x9b": ["\x7f\u202e", "é\t\n"]}
    written = make_printable_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(written) == value
    assert written.isprintable()
