"""What a trial that chose its technique turned out to be, and what needn't be tried again after it."""

from __future__ import annotations

from typing import Any

import pytest

from afina.pipeline.search.settling import describe_choice, list_known

MEAN = {"features.pooling": "mean"}


def report(result: str, chosen: str, pooling: str = "mean") -> dict[str, Any]:
    return {
        "technique": result, "choice": {"technique": chosen, "pooling": pooling}, "stage_seconds": {"choose": 2.0}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("found", "given", "settings", "moved"),
    [
        (report("full", "full"), (), MEAN, {"technique": "full", "settings": MEAN}),
        (report("full", "full", "own"), (), {}, {"technique": "full", "settings": {}}),
        (report("full", "full"), ("features.pooling",), {}, {"technique": "full", "settings": {}}),
        (report("lora", "lora"), (), {}, {"technique": "lora", "settings": {}}),
        (report("feature-extraction", "full"), (), {}, {"technique": "full", "settings": MEAN}),
        (report("feature-extraction", "feature-extraction"), (), {}, None),
    ],
)
def test_a_choice_becomes_a_configuration(
    found: dict[str, Any], given: tuple[str, ...], settings: dict[str, Any], moved: dict[str, Any] | None
) -> None:
    assert describe_choice(found, given) == {
        "technique": found["technique"], "settings": settings, "moved": moved,
        "pooling": found["choice"]["pooling"], "choose_seconds": 2.0,
    }  # fmt: skip


def test_what_was_tried_on_the_way_is_known() -> None:
    kept_head = describe_choice(report("feature-extraction", "full"), ())
    assert list_known(kept_head) == [("feature-extraction", {}), ("feature-extraction", MEAN), ("full", MEAN)]
    assert list_known({"technique": "lora", "settings": {"lora.r": 4}}) == [("lora", {"lora.r": 4})]
