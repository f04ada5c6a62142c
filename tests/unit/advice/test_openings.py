"""The first trials of a search: what is named in its order, or the default and then what its evidence speaks for."""

from __future__ import annotations

from typing import Any

import pytest

from afina.advice.search.openings import list_openings
from afina.advice.search.space import Space, build_space
from afina.config.load import load_config
from afina.config.resolve import Sizes

POOLINGS = ("own", "first", "mean")
MEAN = {"features.pooling": "mean"}


def build(rows: int, *techniques: str, given: tuple[str, ...] = ()) -> Space:
    config = load_config(None, {"task": "text-classification"})
    return build_space(config, techniques, Sizes(rows, 384, 512, classes=2), POOLINGS, given)


def end(technique: str, settings: Any = None, moved: Any = None, pooling: str = "mean") -> dict[str, Any]:
    """The entry of a first trial that chose its technique."""
    found = {"technique": moved[0], "settings": moved[1]} if moved else None
    return {"technique": technique, "settings": settings or {}, "moved": found, "pooling": pooling}


def list_guesses(space: Space, first: dict[str, Any] | None) -> list[str]:
    """The openings in short: arm, and the pooling that full fine-tuning is told."""
    found = list_openings(space, ("auto",), first)
    arms = [str(each.get("arm", "")) for each in found]
    return [f"{arm} {each.get(f'{arm}/features.pooling', '')}".strip() for arm, each in zip(arms, found, strict=True)]


def test_named_techniques_begin_with_their_defaults() -> None:
    space = build(2000, "lora", "full")
    assert [each["arm"] for each in list_openings(space, ("lora", "full"), None)] == ["lora", "full"]


def test_nothing_is_guessed_before_the_first_trial_has_ended() -> None:
    assert list_openings(build(2000, "full", "lora"), ("auto", "full", "lora"), None) == [{}]


@pytest.mark.parametrize(
    ("rows", "first", "guesses"),
    [
        (128, end("full", MEAN, ("full", MEAN)), ["", "feature-extraction auto"]),
        (400, end("full", MEAN, ("full", MEAN)), ["", "feature-extraction auto", "full mean"]),
        (900, end("full", MEAN, ("full", MEAN)), ["", "feature-extraction auto", "full/contrastive mean"]),
        (2000, end("full", {}, ("full", {}), "own"), ["", "feature-extraction auto"]),
        (2000, end("feature-extraction", {}, ("full", MEAN)), ["", "lora"]),
        (2000, end("feature-extraction"), ["", "full mean", "lora"]),
    ],
)
def test_what_follows_the_default(rows: int, first: dict[str, Any], guesses: list[str]) -> None:
    """The head where it isn't the result, the other objective near the limit, LoRA where all weights weren't better."""
    assert list_guesses(build(rows, "feature-extraction", "full", "lora"), first) == guesses


def test_what_does_not_fit_is_not_guessed() -> None:
    found = list_guesses(build(2000, "feature-extraction", "lora"), end("lora", {}, ("lora", {})))
    assert found == ["", "feature-extraction auto"]


def test_a_pooling_that_was_given_is_not_told() -> None:
    space = build(400, "feature-extraction", "full", given=("features.pooling",))
    found = list_openings(space, ("auto",), end("full", {}, ("full", {})))
    assert [each.get("arm") for each in found] == [None, "feature-extraction", "full"]
    assert not [name for each in found for name in each if "pooling" in name]
