"""Tiny models as costs see them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def draw(tiny_models: Callable[[str], Path]) -> Callable[..., Any]:
    """`draw(family, is_language_model=False, dropout=0.0)`: the blueprint of a tiny model."""
    from afina.models.empty import draw_blueprint
    from afina.models.weights import find_weights, read_tensors

    def build(family: str, is_language_model: bool = False, dropout: float = 0.0) -> Any:
        folder = tiny_models(family)
        tensors = read_tensors(find_weights(folder))
        head = None if is_language_model else {"num_labels": 3, "problem_type": "single_label_classification"}
        return draw_blueprint(folder, tensors, head, 0, dropout=dropout, attention="auto")

    return build


@pytest.fixture
def describe() -> Callable[..., Any]:
    """`describe(technique, is_language_model=False, **training)`: the resolved settings of a run."""
    from afina.config.run import RunConfig

    def build(technique: str, is_language_model: bool = False, **training: Any) -> Any:
        tree: dict[str, Any] = {
            "technique": technique, "model": {"max_seq_length": 64},
            "training": {"num_train_epochs": 2, "learning_rate": 1e-4, **training},
            "evaluation": {"eval_tokens_per_batch": 2048},
        }  # fmt: skip
        if "lora" in technique:
            tree["lora"] = {"lora_dropout": 0.0 if is_language_model else 0.1}
        return RunConfig.model_validate(tree)  # one for all techniques, also with what some don't read

    return build


@pytest.fixture
def make_subject(draw: Callable[..., Any]) -> Callable[..., Any]:
    """`make_subject(family, lengths, memory_bytes, rates=True, is_language_model=False)`: what costs depend on."""
    import numpy as np

    from afina.advice.costs import CostSubject
    from afina.advice.machine import Machine, Rates
    from afina.advice.workload import Workload

    def build(
        family: str = "bert", rows: int = 64, tokens: int = 40, memory_bytes: int = 2**40, *, timed: bool = True,
        is_language_model: bool = False, precision: str = "fp32", device: str = "cpu",
    ) -> Any:  # fmt: skip
        share = 0.5 if is_language_model else 0.0
        workload = Workload(rows, 8, 8, np.full(rows, tokens, np.int64), share)
        rates = Rates(1e11, 1e10) if timed else None
        return CostSubject(
            draw(family, is_language_model), workload, Machine("a machine", device, memory_bytes, rates), precision
        )

    return build
