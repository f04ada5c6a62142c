"""The one-pass normalisation is transformers' layers, forward and backward; what is compiled is the plain form."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from afina.kernels import native
from afina.kernels.norm import BLOCK_ROWS, normalise

FORMATS = (torch.bfloat16, torch.float32)
# Widths around sixteen, rows around a block, and none.
SHAPES = [(1, 1), (3, 15), (2, 5, 16), (BLOCK_ROWS + 1, 33), (3 * BLOCK_ROWS, 7), (2, 2, 2, 100), (0, 8)]
EPSILON = 1e-5

needs_kernels = pytest.mark.skipif(native.load_layer_kernels() is None, reason="the kernels weren't compiled")


@pytest.fixture(params=[True, False], ids=["compiled", "plain"])
def _both_forms(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param and native.load_layer_kernels() is None:
        pytest.skip("the kernels weren't compiled")
    native.allow_compiled(request.param)
    yield
    native.allow_compiled(True)


def draw(shape: tuple[int, ...], dtype: torch.dtype, weight_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    input, weight = (torch.randn(each, generator=random) for each in (shape, shape[-1:]))
    return (2 * input).to(dtype).requires_grad_(), weight.to(weight_dtype).requires_grad_()


def run(apply: Any, input: Tensor, weight: Tensor) -> list[Tensor]:
    """Output and both gradients."""
    output = apply(input, weight)
    gradient = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, (input, weight), gradient)]


def assert_close(found: list[Tensor], wanted: list[Tensor], tolerances: dict[torch.dtype, float]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        tolerance = tolerances[one.dtype]
        largest = max(1.0, float(other.detach().abs().max()) if other.numel() else 0.0)
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * largest)


@pytest.mark.usefixtures("_both_forms")
@pytest.mark.parametrize("adds_one", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_are_those_of_the_layers(shape: tuple[int, ...], adds_one: bool) -> None:
    """A rounding apart at most, of the larger numbers: torch sums the weight's gradient in steps that it rounds."""
    for dtype, weight_dtype in product(FORMATS, FORMATS):
        input, weight = draw(shape, dtype, weight_dtype)
        layer: Any = (Gemma3RMSNorm if adds_one else LlamaRMSNorm)(shape[-1], EPSILON)
        del layer.weight

        def plain(input: Tensor, weight: Tensor, layer: Any = layer) -> Tensor:
            layer.weight = weight
            return layer(input)

        found = run(lambda x, w: normalise(x, w, EPSILON, adds_one=adds_one), input, weight)
        assert_close(found, run(plain, input, weight), {torch.bfloat16: 2.0**-7, torch.float32: 2e-6})


@needs_kernels
@pytest.mark.parametrize("adds_one", [False, True])
@pytest.mark.parametrize(("dtype", "weight_dtype"), list(product(FORMATS, FORMATS)), ids=str)
def test_what_is_compiled_is_the_plain_form_for_any_number_of_threads(
    dtype: torch.dtype, weight_dtype: torch.dtype, adds_one: bool
) -> None:
    for shape in SHAPES:
        input, weight = draw(shape, dtype, weight_dtype)
        results = []
        for threads, is_compiled in ((1, True), (2, True), (5, True), (1, False)):
            native.allow_compiled(is_compiled)
            torch.set_num_threads(threads)
            results.append(run(lambda x, w: normalise(x, w, EPSILON, adds_one=adds_one), input, weight))
        native.allow_compiled(True)
        for other in results[1:3]:
            assert all(torch.equal(*pair) for pair in zip(results[0], other, strict=True))
        assert_close(results[0], results[3], {torch.bfloat16: 2.0**-7, torch.float32: 1e-6})


@pytest.mark.parametrize("adds_one", [False, True])
def test_gradients_are_the_derivatives(adds_one: bool) -> None:
    random = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=random, dtype=torch.float64).requires_grad_() for shape in ((3, 2, 5), (5,))]
    assert torch.autograd.gradcheck(lambda x, w: normalise(x, w, EPSILON, adds_one=adds_one), inputs)


@pytest.mark.usefixtures("_both_forms")
def test_other_layouts_and_frozen_weights() -> None:
    input, weight = draw((6, 24), torch.bfloat16, torch.bfloat16)
    wanted = run(lambda x, w: normalise(x, w, EPSILON), input, weight)
    turned = input.detach().T.contiguous().T.requires_grad_()
    assert not turned.is_contiguous()
    for one, other in zip(run(lambda x, w: normalise(x, w, EPSILON), turned, weight), wanted, strict=True):
        assert torch.equal(one, other)
    output = normalise(input, weight.detach(), EPSILON)
    (gradient,) = torch.autograd.grad(output, input, output.detach())
    assert gradient.shape == input.shape
    # The gradient of a sum is one number in memory.
    torch.autograd.grad(normalise(input, weight, EPSILON).sum(), input)


@pytest.mark.usefixtures("_both_forms")
def test_what_is_no_number_is_seen() -> None:
    for value in (float("nan"), float("inf")):
        input, weight = draw((2, 20), torch.bfloat16, torch.bfloat16)
        with torch.no_grad():
            input[1, 3] = value
        output = normalise(input, weight, EPSILON)
        assert torch.isfinite(output[0]).all()
        assert not torch.isfinite(output[1]).all()


def test_it_keeps_the_input_and_a_number_for_each_row() -> None:
    input, weight = draw((4, 32), torch.bfloat16, torch.bfloat16)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        normalise(input, weight, EPSILON)
    assert sorted(each.nbytes for each in kept) == [4 * 4, 2 * 32, 2 * 4 * 32]


@needs_kernels
def test_shapes_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="rows as long as the weight are wanted"):
        normalise(torch.zeros(3, 8), torch.zeros(9), EPSILON)


def test_a_derivative_of_the_gradients_is_refused() -> None:
    input, weight = draw((2, 3), torch.float32, torch.float32)
    (gradient,) = torch.autograd.grad(normalise(input, weight, EPSILON).square().sum(), input, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
