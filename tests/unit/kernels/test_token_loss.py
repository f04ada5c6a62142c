"""The kernel's losses, gradients and likeliest tokens are those of torch, for any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from afina.kernels import native
from afina.kernels.loss import head_loss, score_targets
from afina.kernels.token_loss import suits_kernel, take_losses

# Vocabularies around thirty-two, and longer than what is summed in fp32.
SHAPES = [(1, 1), (3, 5), (4, 32), (2, 33), (5, 4101), (2, 8192), (0, 7)]

pytestmark = pytest.mark.skipif(native.load_layer_kernels() is None, reason="the kernels weren't compiled")


@pytest.fixture(autouse=True)
def _process() -> Iterator[None]:
    yield
    native.allow_compiled(True)


def draw(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(shape, generator=random)).bfloat16()
    return logits, torch.randint(shape[1], shape[:1], generator=random)


@pytest.mark.parametrize("scale", [1.0, 0.7])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_losses_and_gradients_are_exact_up_to_a_rounding(shape: tuple[int, int], scale: float) -> None:
    logits, targets = draw(shape)
    exact = (logits.double() * scale).requires_grad_()
    wanted = torch.nn.functional.cross_entropy(exact, targets, reduction="none")
    (gradient,) = torch.autograd.grad(wanted.sum(), exact)
    before = logits.clone()
    losses, likeliest = take_losses(logits, targets, scale, counts=True)
    assert torch.equal(logits, before), "without a gradient nothing is written"
    assert torch.equal(likeliest, before.float().argmax(1))
    torch.testing.assert_close(losses, wanted.detach(), rtol=1e-6, atol=3e-6)
    again, none = take_losses(logits, targets, scale, is_gradient_wanted=True)
    assert torch.equal(losses, again)
    assert not len(none)
    torch.testing.assert_close(logits.double(), gradient, rtol=2.0**-8, atol=1e-6)


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        logits, targets = draw((9, 5000))
        results.append((take_losses(logits, targets, 1.0, is_gradient_wanted=True)[0], logits))
    for other in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(results[0], other, strict=True))


def test_of_equal_logits_the_first_is_the_likeliest() -> None:
    assert take_losses(torch.ones(2, 70).bfloat16(), torch.zeros(2).long(), 1.0, counts=True)[1].tolist() == [0, 0]


def test_what_is_no_number_is_seen() -> None:
    for value in (float("nan"), float("inf")):
        logits, targets = draw((3, 50))
        logits[1, 40] = value
        losses, _ = take_losses(logits, targets, 1.0)
        assert torch.isfinite(losses).tolist() == [True, False, True]


def test_targets_outside_of_the_vocabulary_are_refused() -> None:
    logits, _ = draw((2, 5))
    for targets in ([0, 5], [-100, 1], [1]):
        with pytest.raises(IndexError, match="targets from 0 to 4 are wanted"):
            take_losses(logits, torch.tensor(targets), 1.0)


def test_what_the_kernel_does_not_know_is_left_to_torch() -> None:
    logits, _ = draw((2, 5))
    assert suits_kernel(logits, None, None)
    assert not suits_kernel(logits.float(), None, None)
    assert not suits_kernel(logits, torch.zeros(5), None)
    assert not suits_kernel(logits, None, 30.0)
    assert not suits_kernel(logits.T, None, None)
    native.allow_compiled(False)
    assert not suits_kernel(logits, None, None)


def test_the_head_gives_the_same_with_it_and_without() -> None:
    """Many chunks, the last of them smaller."""
    random = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(size, generator=random).bfloat16().requires_grad_() for size in ((23, 16), (300, 16)))
    targets = torch.randint(300, (23,), generator=random)
    found = []
    for is_on in (True, False):
        native.allow_compiled(is_on)
        loss = head_loss(hidden, weight, None, targets, chunk_rows=5, scale=0.7)
        gradients = torch.autograd.grad(loss * 0.1, (hidden, weight))
        found.append([loss, *gradients, *score_targets(hidden, weight, None, targets, chunk_rows=5, scale=0.7)])
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-6, atol=0)
    for one, other in zip(found[0][1:3], found[1][1:3], strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02 * float(other.detach().abs().max()))
    torch.testing.assert_close(found[0][3], found[1][3], rtol=1e-6, atol=0)
    assert int(found[0][4]) == int(found[1][4])
