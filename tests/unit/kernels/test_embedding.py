"""A table of which only the seen rows are trained ends as one that is trained whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from afina.kernels.embedding import SeenRows
from afina.training.optim import make_optimizer

SEEN = torch.tensor([0, 3, 4, 9])
PAD = 0
BATCHES = [torch.tensor([[3, 4, PAD], [9, 9, 3]]), torch.tensor([[4, PAD, PAD], [3, 3, 4]]), torch.tensor([[9, 3, 4]])]


def make_table(padding: int | None) -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(12, 5, padding_idx=padding)


def train(table: nn.Module, steps: int) -> None:
    optimizer = make_optimizer(table, 0.05, weight_decay=0.3)
    for step in range(steps):
        loss = (table(BATCHES[step % len(BATCHES)]) - 1.0).pow(2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("padding", [PAD, None])
def test_training_gives_the_table_that_training_it_whole_gives(padding: int | None) -> None:
    whole, seen = make_table(padding), SeenRows(make_table(padding), SEEN)
    train(whole, 40)
    train(seen, 40)
    settled = seen.settle()
    torch.testing.assert_close(settled.weight, whole.weight, rtol=1e-5, atol=1e-6)
    start = make_table(padding).weight
    assert not torch.allclose(settled.weight[3], start[3], atol=0.1)
    assert not torch.allclose(settled.weight[1], start[1], rtol=0.1)  # not named, but decayed


def test_an_evaluation_reads_rows_that_were_never_seen_with_their_decay() -> None:
    seen = SeenRows(make_table(PAD), SEEN)
    train(seen, 10)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        before = seen(ids)
    torch.testing.assert_close(before[0], seen.settle().weight.detach(), rtol=0, atol=0)


def test_only_seen_rows_have_a_gradient_and_moments() -> None:
    seen = SeenRows(make_table(PAD), SEEN)
    moving = {name: tuple(p.shape) for name, p in seen.named_parameters() if p.requires_grad}
    assert moving == {"rows_UD": (4, 5), "factor": (1, 1)}


def test_a_row_that_was_not_announced_is_an_error_in_training() -> None:
    seen = SeenRows(make_table(PAD), SEEN)
    with pytest.raises((IndexError, RuntimeError)):
        seen(torch.tensor([[7]])).sum().backward()


def test_the_whole_table_can_be_asked_for() -> None:
    seen = SeenRows(make_table(PAD), SEEN)
    train(seen, 3)
    found = seen.weight
    (found**2).sum().backward()
    assert seen.factor.grad is None or float(seen.factor.grad.abs().sum()) == 0.0
    with torch.no_grad():
        assert torch.equal(found, seen.settle().weight)
