"""What a difference costs, in words."""

from __future__ import annotations

from typing import Any

import pytest

from afina.cli.compare import GIB, describe_cost

NO_GAIN = {"seconds_per_unit": None, "bytes_per_unit": None, "unit": "point of accuracy"}


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        ({"seconds": -16.3, "bytes": -0.59 * GIB, "gained": -1.0}, "takes 16.3 s less and 0.59 GiB less, for no gain"),
        ({"seconds": 2.0, "bytes": 0, "gained": None}, "takes 2.0 s more and as much memory"),
        (
            {"seconds": 20.0, "bytes": -GIB, "gained": 5.0, "seconds_per_unit": 4.0, "bytes_per_unit": -GIB / 5},
            "takes 20.0 s more and 1.00 GiB less; for each point of accuracy gained: 4.0 s more and 0.200 GiB less",
        ),
    ],
)
def test_more_and_less_are_words(cost: dict[str, Any], words: str) -> None:
    assert describe_cost(NO_GAIN | cost) == words
