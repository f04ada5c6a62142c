"""Sizes that would fill the memory are refused by name before transformers sees them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afina.errors import ModelError
from afina.models.inspect import inspect_model
from afina.models.limits import LARGEST, find_absurd_sizes
from afina.testing.models import FAMILIES


@pytest.mark.parametrize("key", ["num_labels", "num_hidden_layers", "vocab_size"])
def test_a_config_of_absurd_size_is_refused(key: str, copy_model: Callable[[str], Path]) -> None:
    folder = copy_model("bert")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: 1_000_000_000}))
    with pytest.raises(ModelError) as caught:
        inspect_model(folder)
    assert str(caught.value) == (
        f"the model in {folder} can't be used\n"
        f"config.json has a {key} that no model has\n"
        "  found: 1000000000\n"
        f"  expected: at most {LARGEST[key]:,}\n"
        "  do: copy config.json from where the model was published"
    )


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"num_labels": 1e9}, "1000000000.0"),
        ({"num_labels": float("nan")}, "NaN"),
        ({"num_labels": float("inf")}, "Infinity"),
        ({"text_config": {"num_hidden_layers": 10_001}}, "10001"),
        ({"id2label": {str(number): "a" for number in range(1_000_001)}}, "1,000,001 entries"),
    ],
)
def test_what_is_larger_than_the_limit(settings: dict[str, Any], found: str) -> None:
    assert [problem.found for problem in find_absurd_sizes("config.json", settings)] == [found]


@pytest.mark.parametrize("settings", [
    None, [], {"num_labels": 1_000_000}, {"num_labels": None}, {"num_labels": "3"}, {"id2label": {"0": "vocab_size"}},
    {"id2label": {"vocab_size": 10**12}}, {"time_step_limit": [0.0, float("inf")]}, {"ffn_dim": [1, 2]},
])  # fmt: skip
def test_what_is_not(settings: Any) -> None:
    assert list(find_absurd_sizes("config.json", settings)) == []


def test_other_files_may_hold_such_numbers() -> None:
    assert list(find_absurd_sizes("tokenizer_config.json", {"vocab_size": 10**12})) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_models_are_far_below(family: str, tiny_models: Callable[[str], Path]) -> None:
    settings = json.loads((tiny_models(family) / "config.json").read_text())
    assert len(settings.keys() & LARGEST.keys()) >= 3
    assert list(find_absurd_sizes("config.json", settings)) == []
