"""The head of a run by pairs ends as sure as the validation rows say, and predicts what it predicted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from afina.data.encode import TokenArrays
from afina.data.encoded import EncodedPart
from afina.data.labels import LabelSpace
from afina.models.heads import find_head
from afina.models.load import load_classifier
from afina.pipeline.narrator import Narrator
from afina.pipeline.settled_head import settle_head
from afina.tasks.base import TaskState
from afina.tasks.text_classification import TextClassification
from afina.training.contrastive import ContrastiveRows
from afina.training.objective import LabelledRows
from afina.training.session import start_accelerator

LABELS = np.array([0, 1, 0, 1, 0, 1, 0, 1])
# Three of the eight are wrong, and as sure as those that are right.
SURE = np.where((LABELS == 1)[:, None] ^ (np.arange(8) < 3)[:, None], [[-6.0, 6.0]], [[6.0, -6.0]])
TASK = TextClassification(LabelSpace("multiclass", ("a", "b")))


@pytest.fixture
def settle(tiny_models: Callable[[str], Path]) -> Callable[..., Any]:
    """`settle(scored, is_cut)`: the model before and after, the logits, the parts and the reasons."""

    def run(scored: str = "test", is_cut: bool = False) -> Any:
        random = np.random.default_rng(0)
        tokens = TokenArrays(random.integers(5, 30, 40).astype(np.int32), np.arange(0, 41, 5), None, 0, 0)
        train = EncodedPart("train", tokens, LABELS, np.arange(1, 9))
        parts = {"train": train, "validation": replace(train, name="validation")}
        tables = {name: SimpleNamespace(table="one" if is_cut else name) for name in parts}
        prepared: Any = SimpleNamespace(
            task=TASK, parts=parts, scored=scored, examples=SimpleNamespace(parts=tables)
        )  # fmt: skip
        objective = ContrastiveRows(LabelledRows(TASK, TaskState(), train, parts["validation"], 0, 256))
        torch.manual_seed(0)
        model = load_classifier(tiny_models("bert"), TASK.head_shape().as_config(), 0, dropout=0.0).model.eval()
        before = find_head(model).weight.clone()
        logits, narrator = {"validation": SURE.copy()}, Narrator()
        learned_from = settle_head(prepared, objective, model, start_accelerator("cpu", "fp32"), logits, narrator)
        reasons = {reason.setting: reason.value for reason in narrator.reasons}
        return before, find_head(model).weight, logits["validation"], learned_from, reasons

    return run


def test_a_head_that_is_too_sure_is_softened_by_the_validation_rows(settle: Callable[..., Any]) -> None:
    before, after, logits, learned_from, reasons = settle()
    temperature = reasons["temperature"]
    assert temperature == pytest.approx(12 / np.log(5 / 3), rel=1e-3), "five of eight are right"
    assert torch.allclose(after, before / temperature, rtol=1e-3)
    assert logits == pytest.approx(SURE / temperature, rel=1e-3)
    assert learned_from == ("train",)


def test_rows_that_judge_the_result_soften_nothing(settle: Callable[..., Any]) -> None:
    before, after, logits, learned_from, reasons = settle(scored="validation", is_cut=True)
    assert torch.equal(after, before)
    assert np.array_equal(logits, SURE)
    assert (learned_from, reasons) == (("train",), {})


def test_a_head_solved_with_all_rows_is_softened_as_well(settle: Callable[..., Any]) -> None:
    *_, learned_from, reasons = settle(is_cut=True)
    assert learned_from == ("train", "validation")
    assert set(reasons) == {"temperature", "rows of the head"}
