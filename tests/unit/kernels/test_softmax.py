"""The softmax of masked scores is torch's, forward and backward, and the same for any number of threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from afina.kernels import native
from afina.kernels.softmax import LONGEST, compute_softmax_plain, differentiate_softmax, suits_softmax, take_softmax_

# Keys around thirty-two, rows around the block of a thread.
SHAPES = [(1, 1, 1, 1), (2, 3, 5, 31), (1, 2, 33, 33), (2, 2, 4, 64), (1, 1, 3, 200), (0, 2, 3, 4)]
MASKS = ["none", "causal", "padding", "some", "none but some rows"]
SCALING = 0.3

needs_kernels = pytest.mark.skipif(native.load_layer_kernels() is None, reason="the kernels weren't compiled")


def draw(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return (6 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).bfloat16()


def make_mask(kind: str, shape: tuple[int, ...]) -> Tensor | None:
    """Expanded, as models give it."""
    rows, _, queries, keys = shape
    if kind in ("none", "causal"):
        return None
    mask = torch.ones(rows, 1, queries, keys, dtype=torch.bool)
    if kind == "padding":
        mask[:, :, :, keys // 2 + 1 :] = False
    else:
        mask = torch.rand(mask.shape, generator=torch.Generator().manual_seed(2)) < 0.5
        mask[..., 0] |= True
    if kind == "none but some rows":
        mask[:, :, ::2] = False
    return mask.expand(shape)


def run(shape: tuple[int, ...], kind: str) -> tuple[Tensor, Tensor]:
    """Probabilities and the gradient of the scores."""
    start = draw(shape).requires_grad_()
    found = take_softmax_(start * 1.0, make_mask(kind, shape), SCALING, shape, is_causal=kind == "causal")
    (gradient,) = torch.autograd.grad(found, start, draw(shape, 1))
    return found.detach(), gradient


@needs_kernels
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_probabilities_and_gradients_are_exact_up_to_a_rounding(shape: tuple[int, ...], kind: str) -> None:
    if kind == "causal" and shape[2] > shape[3]:
        pytest.skip("a query without a key")
    found, gradient = run(shape, kind)
    exact = compute_softmax_plain(draw(shape).double(), make_mask(kind, shape), SCALING, kind == "causal")
    torch.testing.assert_close(found.double(), exact, rtol=2.0**-8, atol=1e-30)
    weights, direction = found.double(), draw(shape, 1).double()
    products = weights * direction
    wanted = SCALING * weights * (direction - products.sum(-1, keepdim=True))
    scale = float(direction.abs().max()) if direction.numel() else 0.0
    torch.testing.assert_close(gradient.double(), wanted, rtol=2.0**-8, atol=1e-6 * scale)


@needs_kernels
@pytest.mark.parametrize("kind", MASKS)
def test_bits_do_not_depend_on_the_number_of_threads(kind: str) -> None:
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(run((3, 2, 40, 70), kind))
    for other in found[1:]:
        assert torch.equal(other[0], found[0][0])
        assert torch.equal(other[1], found[0][1])


@pytest.mark.parametrize("is_causal", [False, True])
def test_gradients_are_the_derivatives(is_causal: bool) -> None:
    """Of the plain form, which computes any dtype."""
    shape = (2, 2, 3, 4)
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()

    def apply(scores: Tensor) -> Tensor:
        return take_softmax_(scores * 1.0, None, SCALING, shape, is_causal=is_causal)

    assert torch.autograd.gradcheck(apply, [start])


@needs_kernels
def test_heads_that_are_stacked_are_seen_apart() -> None:
    """Scores of two heads of queries for each of two heads of keys, with a mask for each head."""
    shape = (2, 4, 5, 7)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.7
    wanted = take_softmax_(draw(shape), mask, SCALING, shape)
    found = take_softmax_(draw(shape).view(2, 2, 10, 7), mask, SCALING, shape)
    assert found.shape == (2, 2, 10, 7)
    assert torch.equal(found.view(shape), wanted)


@needs_kernels
def test_what_is_no_number_is_seen() -> None:
    for value in (float("nan"), float("inf")):
        scores = draw((1, 1, 2, 40))
        scores[0, 0, 1, 35] = value
        found = take_softmax_(scores, None, SCALING, scores.shape)
        assert torch.isfinite(found[0, 0, 0]).all()
        assert not torch.isfinite(found[0, 0, 1]).all()


@needs_kernels
def test_memory_that_would_be_misread_is_refused() -> None:
    scores = draw((1, 1, 4, 3))
    with pytest.raises(ValueError, match="has no key"):
        take_softmax_(scores, None, SCALING, scores.shape, is_causal=True)
    with pytest.raises(ValueError, match="the mask's shape"):
        take_softmax_(scores, torch.ones(1, 1, 4, 2, dtype=torch.bool), SCALING, scores.shape)
    with pytest.raises(ValueError, match="shapes are"):
        differentiate_softmax(scores, scores[..., :2], SCALING, False)


def test_what_the_kernel_does_not_know_is_left_to_torch() -> None:
    mask: Any = torch.ones(1, dtype=torch.bool)
    is_there = native.load_layer_kernels() is not None
    assert suits_softmax(torch.bfloat16, LONGEST, mask) == is_there
    assert not suits_softmax(torch.bfloat16, LONGEST + 1, mask)
    assert not suits_softmax(torch.float32, 4, None)
    assert not suits_softmax(torch.bfloat16, 4, mask.float())
    turned = draw((2, 3, 5, 4)).transpose(1, 2)  # not contiguous: computed by torch, where it lies
    wanted = torch.softmax(turned.float() * SCALING, -1)
    pair = turned.contiguous(), None
    torch.testing.assert_close(take_softmax_(*pair, SCALING, (2, 5, 3, 4)).float(), wanted, rtol=0.01, atol=1e-3)
