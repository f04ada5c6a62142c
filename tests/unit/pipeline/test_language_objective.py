"""A model's halves and packed rows are taken only where they are the plain thing, here and in `afina evaluate`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import afina
from afina.data.encode import TokenArrays
from afina.data.encode_conversations import TrainedRows
from afina.data.packing import collate_packed
from afina.models.language_head import SplitLanguageModel, split_language_model
from afina.models.load import load_language_model
from afina.pipeline.language.objective import LEAK_TOLERANCE, measure_leak
from afina.testing.data import make_conversations

LENGTHS = (6, 9, 4)


class Leaking(nn.Module):
    """A backbone with a layer, as some have, that looks one token back whatever the mask says."""

    def __init__(self, inner: nn.Module, sign: float) -> None:
        super().__init__()
        self.inner, self.sign = inner, sign

    def forward(self, **inputs: Any) -> tuple[torch.Tensor]:
        hidden_BTH = self.inner(**inputs)[0]
        return (hidden_BTH + self.sign * hidden_BTH.roll(1, dims=1),)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_rows_that_see_each_other_are_found(precision: str, tiny_models: Callable[[str], Path]) -> None:
    random = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    tokens = TokenArrays(random.integers(10, 60, offsets[-1]).astype(np.int32), offsets, None, 0, 0)
    rows = TrainedRows("train", tokens, np.ones(offsets[-1], np.uint8), np.arange(1, 4))
    batch = collate_packed(rows, [np.arange(3)], 0)
    head = split_language_model(load_language_model(tiny_models("llama")).model.eval())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        assert measure_leak(head, batch, LENGTHS[0]) == 0.0
        for sign in (0.1, -0.1):
            leaking = SplitLanguageModel(Leaking(head.backbone, sign), head.linear)
            assert measure_leak(leaking, batch, LENGTHS[0]) > LEAK_TOLERANCE[precision]
        assert measure_leak(leaking, collate_packed(rows, [np.arange(1)], 0), LENGTHS[0]) == 0.0, "a row alone"


def test_a_head_that_is_not_taken_apart_scores_alike_everywhere(
    tiny_models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As of a family that scales its logits by a setting of another name.
    monkeypatch.setattr(SplitLanguageModel, "settings", property(lambda head: {"softcap": None, "scale": 2.0}))
    rows = make_conversations("completion", 24)
    run = afina.fit(
        tiny_models("llama"), rows, "full", output=tmp_path / "run", num_train_epochs=1, bootstrap_resamples=0,
        generation_samples=0, general_text=False, precision="fp32", verbose=False,
    )  # fmt: skip
    assert any("the head is not taken apart" in note for note in run.report["notes"])
    lines = [json.loads(line) for line in (run.path / "row_scores.jsonl").read_text(encoding="utf-8").splitlines()]
    again = afina.evaluate(run.path, [rows[line["row"] - 1] for line in lines if line["part"] == "test"])
    assert again["metrics"]["test/loss"] == pytest.approx(run.metrics["test/loss"], rel=1e-5)
