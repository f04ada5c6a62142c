"""Any setting can be written as a flag, so that no error names a flag that its verb lacks."""

from __future__ import annotations

import pytest

from afina.cli.setting_flags import spell_settings

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
def test_a_setting_of_another_verb_becomes_a_set(written: list[str], meant: list[str]) -> None:
    assert list(spell_settings(written, OWN)) == meant
