"""The choice of a technique over a grid of evidence, and what it says."""

from __future__ import annotations

from typing import Any

import pytest

from afina.advice.choose import (
    FEWEST_ROWS,
    LARGE_PARAMETERS,
    choose_labelled_technique,
    choose_language_technique,
    guess_technique,
)
from afina.advice.evidence import Evidence

ALL_FIT = {"full": True, "lora": True, "qlora": True}


def make_evidence(**changes: Any) -> Evidence:
    """Two thousand rows of two classes that a head knows half of."""
    probe = changes.pop("probe", 0.75)
    values = {
        "kind": "multiclass", "skill": "accuracy", "rows": 2000, "rows_per_class": 1000.0, "floor": 0.5,
        "curve": ((400, probe - 0.02), (800, probe - 0.01), (1500, probe)), "learned": 0.8, "words": 0.7,
        "features": probe, "compared": 750,
    }  # fmt: skip
    return Evidence(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "parameters", "fits", "technique", "because"),
    [
        ({}, 10**8, ALL_FIT, "full", "100,000,000 weights fit into memory"),
        ({}, 10**8, {**ALL_FIT, "full": False}, "lora", "full fine-tuning doesn't fit"),
        ({}, 10**8, {"qlora": True}, "qlora", "only a base in 4 bits fits"),
        ({}, 10**8, {}, "feature-extraction", "nothing else fits"),
        ({}, LARGE_PARAMETERS + 1, ALL_FIT, "lora", "weights are many"),
        ({"rows": FEWEST_ROWS - 1}, 10**8, ALL_FIT, "feature-extraction", "too few to move a backbone"),
        ({"rows_per_class": 3.0}, 10**8, ALL_FIT, "feature-extraction", "3 rows a class are too few"),
        ({"probe": 0.995}, 10**8, ALL_FIT, "feature-extraction", "nothing is left"),
        ({"learned": 1.0}, 10**8, ALL_FIT, "feature-extraction", "lacks rows rather than a backbone"),
        ({"learned": 1.0, "words": 0.85}, 10**8, ALL_FIT, "full", "word counts are enough"),
        ({"learned": 1.0, "words": 0.76}, 10**8, ALL_FIT, "feature-extraction", "word counts are enough"),
        ({"learned": 1.0, "words": None}, 10**8, ALL_FIT, "feature-extraction", "on new rows; it knows 100.0%"),
    ],
)
def test_the_choice_and_its_reason(
    changes: dict[str, Any], parameters: int, fits: dict[str, bool], technique: str, because: str
) -> None:
    choice = choose_labelled_technique(make_evidence(**changes), parameters, fits)
    assert choice.technique == technique
    assert because in choice.reason


def test_what_would_have_changed_it_is_true() -> None:
    few = choose_labelled_technique(make_evidence(rows=FEWEST_ROWS - 1), 10**8, ALL_FIT)
    assert few.otherwise == (f"{FEWEST_ROWS} training rows or more: full",)
    assert choose_labelled_technique(make_evidence(rows=FEWEST_ROWS), 10**8, ALL_FIT).technique == "full"


@pytest.mark.parametrize(
    ("changes", "technique", "because"),
    [
        ({}, "full", "few rows make many pairs"),
        ({"rows": 20, "rows_per_class": 4.0, "learned": 1.0}, "full", "few rows make many pairs"),
        ({"rows": 20, "rows_per_class": 1.5}, "feature-extraction", "1.5 rows a class make no pairs"),
        ({"probe": 0.995}, "feature-extraction", "nothing is left"),
    ],
)
def test_few_rows_speak_against_nothing_where_pairs_are_learned(
    changes: dict[str, Any], technique: str, because: str
) -> None:
    choice = choose_labelled_technique(make_evidence(**changes), 10**8, ALL_FIT, by_pairs=True)
    assert choice.technique == technique
    assert because in choice.reason


@pytest.mark.parametrize(
    ("tokens", "parameters", "fits", "technique"),
    [
        (10**5, 10**8, ALL_FIT, "lora"),
        (10**7, 10**8, ALL_FIT, "full"),
        (10**7, 10**8, {**ALL_FIT, "full": False}, "lora"),
        (10**7, LARGE_PARAMETERS + 1, ALL_FIT, "lora"),
        (10**5, 10**8, {"qlora": True}, "qlora"),
        (10**5, 10**8, {}, None),
    ],
)
def test_the_choice_for_a_language_model(
    tokens: int, parameters: int, fits: dict[str, bool], technique: str | None
) -> None:
    choice = choose_language_technique(tokens, 10**6, parameters, fits)
    assert (choice.technique if choice else None) == technique
    assert choice is None or f"{tokens:,} tokens to learn" in choice.reason


def test_the_prior_before_anything_is_computed() -> None:
    few = guess_technique(FEWEST_ROWS - 1, 0, 10**5, 10**8, {**ALL_FIT, "feature-extraction": True})
    many = guess_technique(FEWEST_ROWS, 0, 10**5, 10**8, {**ALL_FIT, "feature-extraction": True})
    chats = guess_technique(50, 5000, 10**6, 10**8, ALL_FIT)
    assert few is not None
    assert many is not None
    assert chats is not None
    assert (few.technique, many.technique, chats.technique) == ("feature-extraction", "full", "lora")
    assert few.reason == "199 rows are few"
    assert "moves the backbone only where that may pay" in many.reason
    assert guess_technique(10, 0, 10**5, 10**8, {}) is None


def test_what_is_not_installed_is_said_with_how_to_get_it() -> None:
    installed, missing = {"full": False, "lora": True, "qlora": True}, {"full": False, "lora": True}
    pip = "less memory, and pip install 'afina[qlora]': qlora"
    for choose, *given in (
        (choose_labelled_technique, make_evidence(), 10**8),
        (choose_language_technique, 10**5, 10**6, 10**8),
    ):
        assert "less memory: qlora" in choose(*given, installed).otherwise
        assert pip in choose(*given, missing).otherwise
    assert (
        choose_labelled_technique(make_evidence(), 10**8, {"full": False, "lora": False, "qlora": False}).otherwise
        == ()
    )
