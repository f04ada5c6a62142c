"""Settings given as keywords: sections as mappings, and slips of a function's own arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import afina
from afina.config.keywords import collect_flags, collect_keywords
from afina.config.load import load_config
from afina.errors import ConfigError
from afina.testing.data import make_rows


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


def test_a_setting_given_twice_with_two_values_is_refused() -> None:
    flags = ["learning_rate=1.0e-4", "seed=1"]
    assert collect_flags([*flags, "training.learning_rate=0.0001", "lora={r: 8}"], afina.fit) == {
        "training.learning_rate": 1e-4, "seed": 1, "lora.r": 8,
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        collect_flags([*flags, "training.learning_rate=0.0002", "seed=2"], afina.fit)
    assert str(caught.value) == (
        "2 problems\n"
        "1. the setting training.learning_rate is given twice\n     found: 0.0001 and 0.0002\n"
        "     expected: one value\n     do: leave one of the two out\n"
        "2. the setting seed is given twice\n     found: 1 and 2\n     expected: one value\n"
        "     do: leave one of the two out"
    )
    with pytest.raises(ConfigError, match=r"the setting lora\.r is given twice"):
        collect_keywords({"r": 4, "lora": {"r": 8}}, afina.fit)
    with pytest.raises(ConfigError, match=r"the setting model\.reference is given twice"):
        afina.fit("bert", [], **{"model.reference": "other"})
    with pytest.raises(ConfigError, match=r"the setting data\.path is given twice"):
        afina.check("rows.csv", **{"data.path": "other.csv"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("verbose=true", "verbose is no setting\n  do: the flag or argument of this name, not --set verbose=..."),
        ("quantization=8", "quantization holds settings, and has no value"),
        ("model=bert", "model holds settings, and has no value\n  expected: one of model.reference, model.revision,"),
    ],
)
def test_what_is_no_setting_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, collect_flags([text], afina.fit))
    assert message in str(caught.value)


@pytest.mark.parametrize("call", [afina.plan, afina.check])
def test_what_is_only_asked_about_may_be_described_in_a_file(
    call: Any, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in make_rows("multiclass", 40)), encoding="utf-8")
    config = tmp_path / "run.yaml"
    given = {"model": {"reference": str(tiny_models("bert"))}, "data": {"path": str(rows)}, "technique": "lora"}
    config.write_text(json.dumps(given), encoding="utf-8")
    described, named = call(config=config).to_dict(), call(rows, tiny_models("bert"), technique="lora").to_dict()
    assert described.keys() == named.keys()
    assert described.get("facts") == named.get("facts")
    assert [each["technique"] for each in described.get("techniques", [{"technique": "lora"}])] == ["lora"]
    missing = call.__name__
    with pytest.raises(ConfigError, match=rf"no data was given\n.*\n +do: afina\.{missing}\(data"):
        call()


def test_a_setting_with_the_name_of_an_argument_reaches_its_setting() -> None:
    assert collect_flags(["device=cpu"], afina.plan) == {"training.device": "cpu"}
