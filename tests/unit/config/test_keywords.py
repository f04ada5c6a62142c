"""Settings given as keywords: sections as mappings, and slips of a function's own arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import afina
from afina.config.keywords import collect_keywords
from afina.errors import ConfigError


def test_a_section_is_a_mapping() -> None:
    found = collect_keywords({"lora": {"r": 8}, "seed": 1, "output": Path("here")}, afina.fit)
    assert found == {"lora.r": 8, "seed": 1, "output": "here"}


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        (
            afina.search,
            {"budget": "1m", "metrik": "f1"},
            "unknown argument metrik of afina.search\n  do: did you mean metric?",
        ),
        (afina.plan, {"measures": True}, "unknown argument measures of afina.plan\n  do: did you mean measure?"),
    ],
)
def test_a_slip_of_an_argument_leads_to_it(function: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        function("rows.csv", "model", **given)
    assert str(caught.value) == message


def test_a_slip_of_a_setting_is_left_to_the_settings() -> None:
    assert collect_keywords({"learning_rat": 1}, afina.fit) == {"learning_rat": 1}
