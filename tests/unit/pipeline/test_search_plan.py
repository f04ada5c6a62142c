"""Which techniques a search tries, and in which order: those that were named, or the default and what fits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from afina.config.load import load_config
from afina.errors import ConfigError
from afina.pipeline.search.plan import SearchPlan, parse_techniques, settle_plan

ALL = {"feature-extraction": True, "full": True, "lora": True, "qlora": True}


def settle(
    techniques: str | None,
    fits: dict[str, bool],
    kind: str = "multiclass",
    first: str = "auto",
    technique: str = "auto",
    missing: str = "",
) -> tuple[str, ...]:  # fmt: skip
    plan = SearchPlan(load_config(None, {"technique": technique}), (), 60.0, parse_techniques(techniques))
    found = {name: each for name, each in {**ALL, **fits}.items() if name != missing}
    metric = "loss" if kind == "generation" else "accuracy"
    bench: Any = SimpleNamespace(
        kind=kind, primary_metric=metric, first_technique=first, check_techniques=lambda: found
    )
    return settle_plan(plan, bench).techniques


@pytest.mark.parametrize(
    ("techniques", "fits", "expected"),
    [
        (None, {}, "auto,feature-extraction,full,lora"),
        ("auto", {}, "auto,feature-extraction,full,lora"),
        (None, {"full": False}, "auto,feature-extraction,lora"),
        (None, {"full": False, "lora": False}, "auto,feature-extraction,qlora"),
        (None, {"full": False, "lora": False, "qlora": False}, "auto,feature-extraction"),
        ("auto,lora", {}, "auto,lora"),
        ("lora,full", {"full": False}, "lora,full"),
    ],
)
def test_the_techniques_of_labelled_rows(techniques: str | None, fits: dict[str, bool], expected: str) -> None:
    assert ",".join(settle(techniques, fits)) == expected


@pytest.mark.parametrize(
    ("techniques", "first", "fits", "expected"),
    [
        (None, "lora", {}, "lora,full"),
        (None, "full", {}, "full,lora"),
        (None, "lora", {"full": False}, "lora"),
        (None, "qlora", {"full": False, "lora": False}, "qlora"),
        ("auto,full", "lora", {}, "lora,full"),
    ],
)
def test_those_of_a_language_model(
    techniques: str | None, first: str, fits: dict[str, bool], expected: str
) -> None:  # fmt: skip
    assert ",".join(settle(techniques, fits, kind="generation", first=first)) == expected


def test_a_technique_of_the_description_comes_first() -> None:
    assert settle(None, {}, technique="lora") == ("lora", "feature-extraction", "full")


@pytest.mark.parametrize(("kind", "expected"), [("multiclass", "auto,feature-extraction"), ("generation", "auto")])
def test_a_technique_that_is_not_installed_is_not_tried(kind: str, expected: str) -> None:
    fits = {"full": False, "lora": False}
    assert ",".join(settle(None, fits, kind, missing="qlora")) == expected


def test_the_description_of_a_choice_keeps_what_any_technique_may_read() -> None:
    plan = SearchPlan(load_config(None, {"lora.r": 4}), ("lora.r",), 60.0)
    assert plan.shared_config().technique == "auto"
    assert plan.shared_config().lora.r == plan.configure("lora", {}).lora.r == 4
    assert plan.configure("full", {}).lora.r != 4, "full fine-tuning reads no rank"


@pytest.mark.parametrize("name", ["max_steps", "eval_steps"])
def test_settings_that_part_epochs_are_refused(name: str) -> None:
    plan = SearchPlan(load_config(None, {f"training.{name}": 5}), (), 60.0, ("lora",))
    bench: Any = SimpleNamespace(kind="multiclass", primary_metric="accuracy", first_technique="lora")
    with pytest.raises(ConfigError, match=f"training.{name} has no meaning in a search"):
        settle_plan(plan, bench)
