"""Proposals beside the best trial: which settings are free, whose turn it is, and when the study takes over."""

from __future__ import annotations

from typing import Any

from afina.advice.search.neighbourhood import choose_neighbourhood, find_centre
from afina.advice.search.space import Space, build_space
from afina.advice.search.study import STARTUP_TRIALS
from afina.config.load import load_config
from afina.config.resolve import Sizes

CROSS = {"training.objective": "cross-entropy"}


def build(rows: int, *techniques: str) -> Space:
    config = load_config(None, {"task": "text-classification"})
    return build_space(config, techniques, Sizes(rows, 384, 512, classes=2), ("own", "first", "mean"), ())


def list_mine(*states: str) -> list[dict[str, Any]]:
    return [{"state": state, "pooling": "mean"} for state in states]


def test_all_but_two_settings_of_the_best_trial_stay() -> None:
    ranked = [{"technique": "full", "settings": {"training.learning_rate": 2e-4, "features.pooling": "mean"}}]
    found = choose_neighbourhood(
        build(128, "feature-extraction", "full"), ranked, list_mine("finished", "finished"), openings=1
    )
    assert found == {
        "arm": "full/contrastive", "full/contrastive/training.num_train_epochs": 13,
        "full/contrastive/features.pooling": "mean", "full/contrastive/training.dropout": 0.0,
    }  # fmt: skip


def test_after_proposals_that_were_passed_over_the_arms_take_turns() -> None:
    space = build(2000, "feature-extraction", "full", "lora")
    ranked = [{"technique": "full", "settings": {}}]
    found = []
    for skipped in range(7):
        mine = list_mine("finished", *["skipped"] * skipped)
        found.append(choose_neighbourhood(space, ranked, mine, openings=1) or {})
    assert [each["arm"] for each in found] == [*["full", "lora", "feature-extraction"] * 2, "full"]
    free = [found[0].keys() - found[turn].keys() for turn in (3, 6)]
    assert free == [{"full/training.per_device_train_batch_size"}, {"full/features.pooling"}], (
        "and each time another setting is free"
    )


def test_the_study_takes_over_once_it_has_learned() -> None:
    space, ranked = build(128, "full"), [{"technique": "full", "settings": {}}]
    mine = list_mine(*["finished"] * (STARTUP_TRIALS - 1))
    assert choose_neighbourhood(space, ranked, mine, openings=1) is not None
    assert choose_neighbourhood(space, ranked, [*mine, *list_mine("stopped")], openings=1) is None
    assert choose_neighbourhood(space, ranked, [*mine, *list_mine("stopped", "skipped")], openings=1) is not None


def test_where_no_trial_has_a_score_the_default_of_an_arm_is_the_centre() -> None:
    found = choose_neighbourhood(build(128, "full"), [], list_mine("failed"), openings=1)
    assert found is not None
    assert found["full/contrastive/features.pooling"] == "mean", "what the head was best on"


def test_the_centre_of_an_arm_is_its_best_trial_or_its_default() -> None:
    space = build(400, "feature-extraction", "full")
    ranked = [
        {"technique": "full", "settings": {**CROSS, "training.learning_rate": 2e-4}},
        {"technique": "full", "settings": {"training.learning_rate": 5e-5}},
        {"technique": "full", "settings": {"training.learning_rate": 2e-4}},
    ]
    assert find_centre(space, "full", ranked, "mean")["full/training.learning_rate"] == 2e-4
    found = find_centre(space, "full/contrastive", ranked, "mean")
    assert found["full/contrastive/training.learning_rate"] == 5e-5
    assert found["full/contrastive/features.pooling"] == "auto", "as that trial had it"
    untried = find_centre(space, "full/contrastive", ranked[:1], "mean")
    assert untried["full/contrastive/features.pooling"] == "mean", "what the head was best on"
    assert find_centre(space, "feature-extraction", [], None) == {
        "arm": "feature-extraction", "feature-extraction/features.pooling": "auto"
    }  # fmt: skip
