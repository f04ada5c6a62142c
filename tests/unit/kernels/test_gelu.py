"""The GELU from tables is the exact one, forward and backward, for each of the numbers that bf16 has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from afina.kernels import native
from afina.kernels.gelu import BF16_NUMBERS, compute_exactly, gelu, list_numbers

# Lengths around thirty-two, and around what is looked up or shared at a time.
SHAPES = [(1,), (3, 11), (2, 5, 16), (4, 33), (511,), (513,), (3, 8192), (8225,), (0, 4)]

needs_kernels = pytest.mark.skipif(native.load_layer_kernels() is None, reason="the kernels weren't compiled")


@pytest.fixture(autouse=True)
def _process() -> Iterator[None]:
    yield
    native.allow_compiled(True)


def draw(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Numbers, and a direction."""
    random = torch.Generator().manual_seed(0)
    made = [scale * torch.randn(shape, generator=random, dtype=torch.float64) for scale in (3, 1)]
    return made[0].to(dtype), made[1].to(dtype)


def run(apply: Any, input: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Output and gradient."""
    input = input.detach().requires_grad_()
    output = apply(input)
    (gradient,) = torch.autograd.grad(output, input, direction)
    return output.detach(), gradient


def test_every_bf16_number_is_there_once() -> None:
    numbers = list_numbers()
    assert torch.equal(numbers.view(torch.int16).long() % BF16_NUMBERS, torch.arange(BF16_NUMBERS))


@needs_kernels
def test_every_bf16_number_gives_the_nearest_one() -> None:
    """torch's in fp64, rounded; below -5 it loses the digits of 1 + erf(x), and the same by erfc is wanted."""
    numbers = list_numbers()
    value, slope = run(gelu, numbers, torch.ones_like(numbers))
    wanted, wanted_slope = run(functional.gelu, numbers.double(), torch.ones_like(numbers).double())
    is_near = numbers >= -5
    for one, other in ((value, wanted), (slope, wanted_slope)):
        assert one.dtype == torch.bfloat16
        assert torch.equal(one[is_near].nan_to_num(7.0), other[is_near].bfloat16().nan_to_num(7.0))
    is_tail = (numbers < -5) & numbers.isfinite()
    for one, other in zip((value, slope), compute_exactly(numbers.double()), strict=True):
        # Half of the smallest number that bf16 has.
        torch.testing.assert_close(one[is_tail].double(), other[is_tail], rtol=2.0**-8, atol=2.0**-134)
    assert float(value[numbers == -8]) == pytest.approx(-8 * 6.22096057427178e-16, rel=2.0**-8)
    assert float(value[numbers == -12]) == pytest.approx(-12 * 1.776482112077679e-33, rel=2.0**-8)


@pytest.mark.parametrize("is_compiled", [True, False])
def test_what_is_no_number_is_that_of_torch(is_compiled: bool) -> None:
    """In fp64: in bf16 torch gives none for infinity either, if it has enough of them to fill a vector."""
    native.allow_compiled(is_compiled)
    dtype = torch.bfloat16 if is_compiled else torch.float64
    numbers = torch.tensor([float("nan"), float("inf"), -float("inf"), -3e38, 3e38, -0.0, 0.0], dtype=dtype)
    found = run(gelu, numbers, torch.ones_like(numbers))
    wanted = run(functional.gelu, numbers.double(), torch.ones_like(numbers).double())
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one.isnan(), other.isnan())
        assert torch.equal(one.nan_to_num(7.0), other.to(dtype).nan_to_num(7.0))
        assert torch.equal(one.signbit()[5:], other.signbit()[5:])


@needs_kernels
def test_tables_do_not_depend_on_the_last_bits_of_fp64() -> None:
    """So they are the same whatever erfc and exp a processor has."""
    for each, dtype in zip(compute_exactly(list_numbers().double()), (torch.bfloat16, torch.float32), strict=True):
        for factor in (1 - 4e-15, 1 + 4e-15):
            assert torch.equal((each * factor).to(dtype).nan_to_num(), each.to(dtype).nan_to_num())


@needs_kernels
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_are_those_of_torch(shape: tuple[int, ...]) -> None:
    for dtype, tolerance in ((torch.bfloat16, 2.0**-8), (torch.float32, 2e-6)):
        input, direction = draw(shape, dtype)
        found = run(gelu, input, direction)
        for one, other in zip(found, run(functional.gelu, input.double(), direction.double()), strict=True):
            assert (one.dtype, one.shape) == (dtype, input.shape)
            torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=1e-6)


@needs_kernels
def test_gradients_are_rounded_once() -> None:
    """The nearest bf16 number to the exact product nearly everywhere."""
    input, direction = draw((64, 200), torch.bfloat16)
    _, gradient = run(gelu, input, direction)
    _, slope = compute_exactly(input.double())
    assert (gradient != (slope * direction.double()).bfloat16()).float().mean() < 1e-3


@needs_kernels
def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(run(gelu, *draw((5, 8200), torch.bfloat16)))
    for other in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(results[0], other, strict=True))


@needs_kernels
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 31, 32, 33, 63, 100])
def test_nothing_behind_the_end_is_read_or_written(length: int) -> None:
    input, direction = draw((length,), torch.bfloat16)
    held = [torch.full((length + 200,), float("nan"), dtype=torch.bfloat16) for _ in range(2)]
    inside = [one[100:-100].copy_(other) for one, other in zip(held, (input, direction), strict=True)]
    for one, other in zip(run(gelu, *inside), run(gelu, input, direction), strict=True):
        assert torch.equal(one, other)


def test_gradients_are_the_derivatives() -> None:
    """Of the plain form, which computes any format."""
    input, _ = draw((3, 4), torch.float64)
    assert torch.autograd.gradcheck(gelu, [input.requires_grad_()])


@pytest.mark.parametrize("is_compiled", [True, False])
def test_other_layouts(is_compiled: bool) -> None:
    native.allow_compiled(is_compiled)
    input, direction = draw((6, 40), torch.bfloat16)
    wanted = run(gelu, input, direction)
    turned = [each.T.contiguous().T for each in (input, direction)]
    assert not any(each.is_contiguous() for each in turned)
    for one, other in zip(run(gelu, *turned), wanted, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(gelu(turned[0]), wanted[0]), "without a gradient"
    # The gradient of a sum is one number in memory.
    gelu(input.requires_grad_()).sum().backward()
    assert input.grad is not None


def test_it_keeps_its_input_and_nothing_else() -> None:
    for device in ("cpu", "meta"):
        input = draw((4, 8), torch.bfloat16)[0].to(device).requires_grad_()
        kept: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):  # noqa: B023
            output = gelu(input)
        assert [each.nbytes for each in kept] == [64]
        assert torch.autograd.grad(output, input, torch.empty_like(output))[0].shape == input.shape


def test_a_derivative_of_the_gradient_is_refused() -> None:
    input = draw((2, 3), torch.bfloat16)[0].requires_grad_()
    (gradient,) = torch.autograd.grad(gelu(input).square().sum(), input, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
