"""The space of a search: what applies to the technique, around its defaults, without what the user gave."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import optuna
import pytest

from afina.advice.search.space import ARM, Space, build_space
from afina.config.load import load_config
from afina.config.resolve import Sizes, resolve_config

SIZES = Sizes(train_units=400, hidden_size=384, max_positions=512)
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
        return build_space(load_config(None, {"task": task, **given}), techniques, SIZES, POOLINGS, set(given))

    return make


def list_settings(space: Space, arm: str) -> list[str]:
    return [each.setting for each in space.arms[arm].dimensions]


def test_each_technique_has_the_settings_that_it_reads(build: Callable[..., Space]) -> None:
    space = build("full", "lora", "feature-extraction")
    steps = ["training.learning_rate", "training.num_train_epochs", "training.per_device_train_batch_size"]
    assert list_settings(space, "full") == [*steps, "features.pooling", "training.dropout"]
    assert list_settings(space, "lora") == [*steps, "lora.r", "lora.lora_dropout", "lora.target_modules"]
    assert list_settings(space, "feature-extraction") == ["features.pooling"]
    language = build("lora", "full", task="text-generation")
    assert "lora.target_modules" not in list_settings(language, "lora")
    assert "features.pooling" not in list_settings(language, "full")


def test_what_the_user_gave_is_not_searched(build: Callable[..., Space]) -> None:
    space = build("lora", training__learning_rate=1e-3, lora__r=8, lora__lora_alpha=8)
    assert not {"training.learning_rate", "lora.r"} & set(list_settings(space, "lora"))
    proposal = space.suggest(optuna.create_study().ask())
    assert "lora.lora_alpha" not in proposal.settings


@pytest.mark.parametrize("technique", ["full", "lora", "feature-extraction"])
def test_the_default_is_a_point_of_the_space(technique: str, build: Callable[..., Space]) -> None:
    space = build("full", "lora", "feature-extraction")
    study = optuna.create_study(
        sampler=optuna.samplers.PartialFixedSampler(space.locate(technique, {}) or {}, optuna.samplers.RandomSampler(0))
    )
    proposal = space.suggest(study.ask())
    assert (proposal.technique, proposal.settings) == (technique, {})
    resolved, _ = resolve_config(load_config(None, {"task": "text-classification", "technique": technique}), SIZES)
    for each in space.arms[technique].dimensions:
        section, name = each.setting.split(".")
        assert getattr(getattr(resolved, section), name) == each.default
        assert each.holds(each.default)


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
    space = build_space(config, ["full"], Sizes(40, 384, 512), POOLINGS, ())
    batches = next(each for each in space.arms["full"].dimensions if "batch" in each.setting)
    assert batches.choices == (8, 16), "16 is the default and stays"


def build_few(rows: int, classes: int, *given: str, **settings: Any) -> Space:
    config = load_config(None, {"task": "text-classification", **settings})
    sizes = Sizes(rows, 384, 512, classes=classes)
    return build_space(config, ["full", "lora", "feature-extraction"], sizes, POOLINGS, given)


@pytest.mark.parametrize(
    ("rows", "classes", "arms"),
    [
        (383, 2, {"full/contrastive", "lora/contrastive"}),
        (384, 2, {"full/contrastive", "full", "lora/contrastive", "lora"}),
        (1024, 2, {"full/contrastive", "full", "lora/contrastive", "lora"}),
        (1025, 2, {"full", "lora"}),
        (3000, 100, {"full/contrastive", "full", "lora/contrastive", "lora"}),
        (1025, 0, {"full", "lora"}),
        (128, 0, {"full", "lora"}),
    ],
)
def test_both_objectives_are_tried_near_the_limit_of_few_rows(rows: int, classes: int, arms: set[str]) -> None:
    assert set(build_few(rows, classes).arms) == {*arms, "feature-extraction"}


def test_an_objective_that_was_given_is_the_only_one() -> None:
    space = build_few(512, 2, "training.objective", **{"training.objective": "cross-entropy"})
    assert set(space.arms) == {"full", "lora", "feature-extraction"}


def test_the_default_arm_is_the_objective_that_the_rows_stand_for() -> None:
    few, many = build_few(512, 2), build_few(513, 2)
    assert (few.arms["full/contrastive"].settings, few.arms["full"].settings) == (
        {}, {"training.objective": "cross-entropy"}
    )  # fmt: skip
    assert (many.arms["full/contrastive"].settings, many.arms["full"].settings) == (
        {"training.objective": "contrastive"}, {}
    )  # fmt: skip
    assert few.find_arm("full", {"training.objective": "cross-entropy"}) is few.arms["full"]
    assert few.find_arm("qlora", {}) is None


def test_epochs_are_those_of_the_objective() -> None:
    space = build_few(512, 2)
    pairs, cross = (
        next(each for each in space.arms[name].dimensions if "epochs" in each.setting)
        for name in ("full/contrastive", "full")
    )
    assert (pairs.low, pairs.default, pairs.high) == (2, 4, 8), "a hundred steps"
    assert (cross.low, cross.default, cross.high) == (7, 19, 20), "six hundred steps"


def test_a_point_that_the_space_does_not_have(build: Callable[..., Space]) -> None:
    space = build("full")
    assert space.locate("full", {"features.pooling": "last"}) is None
    assert space.locate("full", {"training.learning_rate": 1.0}) is None
    assert space.locate("lora", {}) is None


def test_a_neighbour_differs_in_two_settings_one_of_them_in_turn(build: Callable[..., Space]) -> None:
    space = build("full", "feature-extraction")
    point = space.locate("full", {"features.pooling": "mean"})
    assert point is not None
    free = [sorted(name.rpartition(".")[2] for name in point.keys() - space.loosen(point, turn)) for turn in range(5)]
    assert free == [
        ["learning_rate", "num_train_epochs"], ["learning_rate", "per_device_train_batch_size"],
        ["learning_rate", "pooling"], ["dropout", "learning_rate"], ["learning_rate", "num_train_epochs"],
    ]  # fmt: skip
    head = space.locate("feature-extraction", {})
    assert head is not None
    assert space.loosen(head, 3) == {ARM: "feature-extraction"}
