"""The space of a search: what applies to the technique, around its defaults, without what the user gave."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import optuna
import pytest

from afina.advice.search.space import Space, build_space
from afina.config.load import load_config
from afina.config.resolve import Facts, resolve_config

FACTS = Facts(train_rows=400, hidden_size=384, max_positions=512)
POOLINGS = ("own", "first", "mean")


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def build() -> Callable[..., Space]:
    """`build(*techniques, **settings)`: the space of a classification; settings are given by the user."""

    def make(*techniques: str, task: str = "text-classification", **settings: Any) -> Space:
        given = {key.replace("__", "."): value for key, value in settings.items()}
        return build_space(load_config(None, {"task": task, **given}), techniques, FACTS, POOLINGS, set(given))

    return make


def list_settings(space: Space, technique: str) -> list[str]:
    return [each.setting for each in space.dimensions[technique]]


def test_each_technique_has_the_settings_that_it_reads(build: Callable[..., Space]) -> None:
    space = build("full", "lora", "feature-extraction")
    steps = ["training.learning_rate", "training.num_train_epochs", "training.per_device_train_batch_size"]
    assert list_settings(space, "full") == [*steps, "training.dropout"]
    assert list_settings(space, "lora") == [*steps, "lora.r", "lora.lora_dropout", "lora.target_modules"]
    assert list_settings(space, "feature-extraction") == ["features.pooling"]
    assert "lora.target_modules" not in list_settings(build("lora", task="text-generation"), "lora")


def test_what_the_user_gave_is_not_searched(build: Callable[..., Space]) -> None:
    space = build("lora", training__learning_rate=1e-3, lora__r=8, lora__lora_alpha=8)
    assert not {"training.learning_rate", "lora.r"} & set(list_settings(space, "lora"))
    proposal = space.suggest(optuna.create_study().ask())
    assert "lora.lora_alpha" not in proposal.settings


@pytest.mark.parametrize("technique", ["full", "lora", "feature-extraction"])
def test_the_default_is_a_point_of_the_space(technique: str, build: Callable[..., Space]) -> None:
    space = build("full", "lora", "feature-extraction")
    study = optuna.create_study(
        sampler=optuna.samplers.PartialFixedSampler(space.default_of(technique), optuna.samplers.RandomSampler(0))
    )
    proposal = space.suggest(study.ask())
    assert (proposal.technique, proposal.settings) == (technique, {})
    resolved, _ = resolve_config(load_config(None, {"task": "text-classification", "technique": technique}), FACTS)
    for each in space.dimensions[technique]:
        section, name = each.setting.split(".")
        assert getattr(getattr(resolved, section), name) == each.default
        assert each.default in each.choices if each.choices else each.low <= each.default <= each.high


def test_proposals_are_valid_and_the_same_when_asked_again(build: Callable[..., Space]) -> None:
    space = build("lora", "full")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(3))
    ranks = set()
    for _ in range(40):
        trial = study.ask()
        proposal = space.suggest(trial)
        assert space.suggest(trial) == proposal
        load_config(None, {"technique": proposal.technique, **proposal.settings})
        if "lora.r" in proposal.settings:
            ranks.add(proposal.settings["lora.r"])
            assert proposal.settings["lora.lora_alpha"] == 2 * proposal.settings["lora.r"]
    assert ranks == {4, 8, 32, 64}, "16 is the default, so it isn't listed"


def test_batches_are_not_larger_than_the_data_allows() -> None:
    config = load_config(None, {"task": "text-classification"})
    space = build_space(config, ["full"], Facts(40, 384, 512), POOLINGS, ())
    batches = next(each for each in space.dimensions["full"] if "batch" in each.setting)
    assert batches.choices == (8, 16), "16 is the default and stays"
