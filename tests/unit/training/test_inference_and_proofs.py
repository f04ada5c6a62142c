"""Logits come in the order of the rows whatever the batches, and the proof of 4-bit gradients can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from afina.data.batches import collate_rows
from afina.errors import ProofError
from afina.training.inference import Inference, predict_logits
from afina.training.memory import measure_peak_memory_bytes
from afina.training.proofs import check_evaluation_keeps_gradient, measure_gradient


@pytest.mark.parametrize("tokens_per_batch", [1, 100, 100_000])
def test_logits_are_those_of_each_row_alone(tokens_per_batch: int, open_session: Callable[..., Any]) -> None:
    session = open_session(rows=12)
    tokens = session.objective.train.tokens
    session.model.train()
    inference = Inference(session.objective.pad_id, tokens_per_batch, "cpu", "fp32")
    logits = predict_logits(session.model, tokens, inference)
    assert not session.model.training
    with torch.no_grad():
        alone = [session.model(**collate_rows(tokens, np.asarray([row]), 0)).logits[0].numpy() for row in range(12)]
    np.testing.assert_allclose(logits, np.stack(alone), rtol=1e-4, atol=1e-5)
    assert np.ptp(logits, axis=0).min() > 1e-3


def test_without_4_bit_weights_there_is_nothing_to_prove(open_session: Callable[..., Any]) -> None:
    assert check_evaluation_keeps_gradient(open_session("lora")) == 1.0


def test_the_proof_leaves_everything_as_it_was(open_session: Callable[..., Any]) -> None:
    session = open_session("qlora", dropout=0.1)
    before = {name: parameter.detach().clone() for name, parameter in session.model.named_parameters()}
    torch.manual_seed(5)
    assert check_evaluation_keeps_gradient(session) == pytest.approx(1.0, abs=1e-6)
    assert all(torch.equal(before[name], parameter) for name, parameter in session.model.named_parameters())
    assert all(parameter.grad is None for parameter in session.model.parameters())
    assert not session.optimizer.state
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)


def test_a_gradient_that_an_evaluation_changes_is_found(open_session: Callable[..., Any]) -> None:
    session = open_session("qlora")

    class Repacks(torch.nn.Module):
        """Loses the head's gradient once it has been evaluated."""

        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner, self.evaluated = inner, False

        def forward(self, **batch: torch.Tensor) -> Any:
            self.evaluated |= not self.training
            output = self.inner(**batch)
            if self.evaluated:
                output.logits = output.logits * torch.tensor([1.0, -1.0, 0.0])
            return output

    session.model = Repacks(session.model)
    with pytest.raises(ProofError) as caught:
        check_evaluation_keeps_gradient(session)
    problem = caught.value.problems[0]
    assert problem.what == "evaluating the 4-bit model changes its gradient"
    assert problem.found.startswith("cosine ")
    assert problem.found.endswith(" before and after")
    assert problem.expected == "at least 0.999"
    assert problem.remedy == "--technique lora, or another version of bitsandbytes"


def test_the_gradient_measured_is_that_of_the_first_rows(open_session: Callable[..., Any]) -> None:
    session = open_session("lora")
    gradient = measure_gradient(session)
    assert gradient.ndim == 1
    assert gradient.abs().max() > 0
    assert torch.equal(gradient, measure_gradient(session))


def test_peak_memory_is_in_bytes() -> None:
    before = measure_peak_memory_bytes()
    assert 50e6 < before < 64e9
    held = np.ones(200_000_000, np.uint8)
    assert held.sum() == 200_000_000
    assert measure_peak_memory_bytes() >= before


def test_the_check_takes_no_more_rows_than_a_step(open_session: Callable[..., Any]) -> None:
    from afina.training.proofs import first_rows

    assert len(first_rows(open_session(per_device_train_batch_size=2))) == 2
    assert len(first_rows(open_session(rows=20, per_device_train_batch_size=16))) == 4
