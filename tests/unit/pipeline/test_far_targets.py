"""Numbers far from 0 need a head with a bias, which decoders' own heads haven't."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import afina
from afina.pipeline.far_targets import FarTargetsError
from afina.pipeline.search.loop import list_failures
from afina.testing.data import make_rows

QUICK: dict[str, Any] = {
    "verbose": False, "baselines": False, "bootstrap_resamples": 0, "num_train_epochs": 1, "precision": "fp32",
}  # fmt: skip


def make_far(mean: float) -> list[dict[str, Any]]:
    """Rows whose numbers vary by 1 or so."""
    rows = make_rows("regression", 60)
    values = [float(row["label"]) for row in rows]
    spread = max(values) - min(values)
    return [{**row, "label": mean + 3 * value / spread} for row, value in zip(rows, values, strict=True)]


def find_pooling(run: afina.Run) -> list[Any]:
    return [each["value"] for each in run.report["reasons"] if each["setting"] == "features.pooling"]


def test_a_decoder_gets_a_head_that_can_hold_their_mean(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    rows = make_far(2000)
    run = afina.fit(tiny_models("llama"), rows, "full", output=tmp_path / "run", task="text-regression", **QUICK)
    assert find_pooling(run) == ["last"]
    assert run.metrics["test/rmse"] < 3
    assert run.predict([rows[0]["text"]])[0] == pytest.approx(2000, abs=5)


def test_an_adapter_says_that_it_cannot(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(FarTargetsError) as caught:
        afina.fit(
            tiny_models("llama"), make_far(2000), "lora", output=tmp_path / "run", task="text-regression", **QUICK
        )
    assert str(caught.value).startswith("the numbers lie too far from 0 for the model's own head, which has no bias")
    assert "a column of these numbers less their mean" in str(caught.value)
    assert list(tmp_path.iterdir()) == [], "nothing is left of it"


def test_a_search_goes_on_without_it() -> None:
    assert FarTargetsError in list_failures()


@pytest.mark.parametrize(("family", "mean"), [("bert", 2000.0), ("llama", 2.0)])
def test_others_keep_their_own_head(
    family: str, mean: float, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    run = afina.fit(
        tiny_models(family), make_far(mean), "lora", output=tmp_path / "run", task="text-regression", **QUICK
    )
    assert find_pooling(run) == []
