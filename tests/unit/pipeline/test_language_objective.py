"""A model's halves and packed rows are taken only where they are the plain thing, here and in `afina evaluate`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
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
from afina.pipeline.language.objective import (
    LEAK_TOLERANCE,
    choose_compared,
    find_obstacle,
    find_position_limit,
    measure_leak,
)
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


def fit_packed(model: Path, folder: Path, **settings: Any) -> afina.Run:
    rows = make_conversations("completion", 60)
    return afina.fit(
        model, rows, "full", output=folder / f"{len(list(folder.iterdir()))}", num_train_epochs=2, precision="fp32",
        generation_samples=0, general_text=False, bootstrap_resamples=0, verbose=False, per_device_train_batch_size=8,
        **settings,
    )  # fmt: skip


def test_a_run_of_packed_rows_takes_about_as_many_steps(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    plain, packed = (
        fit_packed(tiny_models("llama"), tmp_path, packing=packing, max_seq_length=200) for packing in (False, True)
    )
    steps = [max(line["step"] for line in run.report["history"]) for run in (plain, packed)]
    (reason,) = [each["reason"] for each in packed.report["reasons"] if each["setting"] == "data.packing"]
    assert "sequences, proven equal to rows alone; " in reason
    assert reason.endswith("which hold about the 8 rows that are asked for")
    assert 0.75 * steps[0] <= steps[1] <= 1.25 * steps[0]


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("attention_chunk_size", 8, "the model attends within chunks of 8 tokens, and the longest row has "),
        ("sliding_window", 8, "the model looks back 8 tokens only, and the longest row has "),
        ("num_attention_heads", 0, "the model has no attention, whose mask would keep rows apart"),
        ("rope_parameters", {"rope_type": "longrope", "original_max_position_embeddings": 8},
         "the model's positions depend on the longest row of a batch"),
    ],
)  # fmt: skip
def test_models_whose_rows_cannot_be_kept_apart_are_not_packed(
    setting: str, value: Any, reason: str, tiny_models: Callable[[str], Path]
) -> None:
    model = load_language_model(tiny_models("llama")).model.eval()
    setattr(model.config, setting, value)
    objective: Any = SimpleNamespace(train=SimpleNamespace(tokens=SimpleNamespace(lengths=np.array([5, 90, 7]))))
    prepared: Any = None
    assert find_obstacle(prepared, model, objective, prepared).startswith(reason)


def test_the_longest_row_is_among_those_compared() -> None:
    assert choose_compared(np.array([3, 9, 1])).tolist() == [0, 1, 2]
    assert choose_compared(np.array([3, 2, 1, 5, 4, 9, 9])).tolist() == [0, 1, 2, 5]


@pytest.mark.parametrize(
    ("parameters", "limit"),
    [
        ({"rope_type": "default"}, None),
        ({"rope_type": "dynamic", "factor": 2.0}, 40),
        ({"rope_type": "longrope", "original_max_position_embeddings": 30}, 30),
        ({"rope_type": "longrope", "original_max_position_embeddings": 64}, None),
        ({"full_attention": {"rope_type": "dynamic"}, "sliding_attention": {"rope_type": "default"}}, 40),
        (None, None),
    ],
)
def test_the_length_from_which_rows_change_each_other(parameters: Any, limit: int | None) -> None:
    assert find_position_limit(SimpleNamespace(rope_parameters=parameters, max_position_embeddings=40), 64) == limit


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
