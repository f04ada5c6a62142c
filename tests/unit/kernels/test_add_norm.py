"""The one-pass sum and normalisation is torch's, forward and backward; what is compiled is the plain form."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from afina.kernels import native
from afina.kernels.add_norm import BLOCK_ROWS, add_and_normalise

# Widths around sixteen and thirty-two, rows around a block, and none.
SHAPES = [(1, 2), (3, 15), (2, 5, 16), (BLOCK_ROWS + 1, 33), (3 * BLOCK_ROWS, 7), (2, 2, 2, 100), (4, 384), (0, 8)]
WIDTHS = [1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 127]
EPSILON = 1e-5
BOTH = (True, True)

needs_kernels = pytest.mark.skipif(native.load_layer_kernels() is None, reason="the kernels weren't compiled")


@pytest.fixture(autouse=True)
def _process() -> Iterator[None]:
    yield
    native.allow_compiled(True)


@pytest.fixture(params=[True, False], ids=["compiled", "plain"])
def _both_forms(request: pytest.FixtureRequest) -> None:
    if request.param and native.load_layer_kernels() is None:
        pytest.skip("the kernels weren't compiled")
    native.allow_compiled(request.param)


def draw(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Update, residual, weight and bias; the rows are far from 0."""
    random = torch.Generator().manual_seed(0)
    update, residual, weight, bias = (torch.randn(each, generator=random) for each in (shape,) * 2 + (shape[-1:],) * 2)
    made = [(2 * update + 3).bfloat16(), residual - 1, weight.to(dtype), bias.to(dtype)]
    return [each.requires_grad_() for each in made]


def draw_directions(shape: tuple[int, ...]) -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=random).to(dtype) for dtype in (torch.float32, torch.bfloat16)]


def run(inputs: list[Tensor], has_gradient: tuple[bool, bool] = BOTH) -> list[Tensor]:
    """Both outputs and all gradients, with a gradient of either output or of both."""
    outputs = add_and_normalise(*inputs, EPSILON)
    given = zip(outputs, draw_directions(inputs[0].shape), has_gradient, strict=True)
    pairs = [(output, direction) for output, direction, has in given if has]
    gradients = torch.autograd.grad([each for each, _ in pairs], inputs, [each for _, each in pairs])
    return [*(each.detach() for each in outputs), *gradients]


def run_exactly(inputs: list[Tensor], has_gradient: tuple[bool, bool] = BOTH) -> list[Tensor]:
    """The same by torch's operations in fp64."""
    update, residual, weight, bias = wide = [each.detach().double().requires_grad_() for each in inputs]
    output = functional.layer_norm(update + residual, weight.shape, weight, bias, EPSILON)
    direction = torch.zeros_like(output)
    for each, has in zip(draw_directions(update.shape), has_gradient, strict=True):
        direction += each.double() * has
    return [output.detach(), output.detach(), *torch.autograd.grad(output, wide, direction)]


def assert_close(found: list[Tensor], wanted: list[Tensor]) -> None:
    """A rounding of each format apart, at the scale of each tensor."""
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        tolerance = 2.0**-8 if one.dtype == torch.bfloat16 else 2e-6
        largest = max(1.0, float(other.abs().max())) if other.numel() else 1.0
        absolute = 3e-6 * largest  # what fp32 leaves of a difference
        torch.testing.assert_close(one.double(), other.double(), rtol=tolerance, atol=absolute)


@pytest.mark.usefixtures("_both_forms")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_are_exact_up_to_a_rounding(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = draw(shape, dtype)
    for has_gradient in (BOTH, (True, False), (False, True)):
        found = run(inputs, has_gradient)
        wanted = [torch.float32, torch.bfloat16, torch.bfloat16, torch.float32, dtype, dtype]
        assert [each.dtype for each in found] == wanted
        assert torch.equal(found[1], found[0].bfloat16())
        assert torch.equal(found[2], found[3].bfloat16())
        assert_close(found, run_exactly(inputs, has_gradient))


@needs_kernels
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_behind_a_row_is_read_or_written(width: int) -> None:
    """Rows that lie in the middle of tensors of another number."""
    inputs = draw((5, width))
    wanted = run(inputs)
    held = [torch.full((each.numel() + 200,), 77.0, dtype=each.dtype) for each in inputs]
    inside = [each[100:-100].view(other.shape).copy_(other.detach()) for each, other in zip(held, inputs, strict=True)]
    found = run([each.detach().requires_grad_() for each in inside])
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    assert all((each[:100] == 77).all() and (each[-100:] == 77).all() for each in held)


@needs_kernels
def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(run(draw((5 * BLOCK_ROWS + 3, 45))))
    for other in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(results[0], other, strict=True))


@needs_kernels
def test_bits_do_not_depend_on_the_rows_beside() -> None:
    inputs = draw((70, 40))
    whole = run(inputs)
    for row in (0, 33, 69):
        alone = add_and_normalise(*(each[row : row + 1] for each in inputs[:2]), *inputs[2:], EPSILON)
        assert all(torch.equal(one[0], other[row]) for one, other in zip(alone, whole[:2], strict=True))


@pytest.mark.parametrize("shape", [(3, 2, 5), (2, 1)])
def test_gradients_are_the_derivatives(shape: tuple[int, ...]) -> None:
    """Of the plain form, which computes any format."""
    random = torch.Generator().manual_seed(0)
    shapes = (shape, shape, shape[-1:], shape[-1:])
    inputs = [torch.randn(each, generator=random, dtype=torch.float64).requires_grad_() for each in shapes]
    assert torch.autograd.gradcheck(lambda *given: add_and_normalise(*given, EPSILON)[0], inputs)


@pytest.mark.usefixtures("_both_forms")
def test_without_gradients_it_is_the_same() -> None:
    for shape in SHAPES:
        inputs = draw(shape)
        wanted = run(inputs)[:2]
        with torch.no_grad():
            assert all(torch.equal(*pair) for pair in zip(add_and_normalise(*inputs, EPSILON), wanted, strict=True))
        found = add_and_normalise(*(each.detach() for each in inputs), EPSILON)
        assert not any(each.requires_grad for each in found)
        assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))


@pytest.mark.usefixtures("_both_forms")
def test_only_the_gradients_that_are_wanted_are_made() -> None:
    inputs = draw((40, 33))
    wanted = run(inputs)[2:]
    for number in range(4):
        given = [each.detach().requires_grad_(place == number) for place, each in enumerate(inputs)]
        outputs = add_and_normalise(*given, EPSILON)
        torch.autograd.backward(outputs, draw_directions(outputs[0].shape))
        assert torch.equal(given[number].grad, wanted[number])
        assert all(each.grad is None for place, each in enumerate(given) if place != number)


@pytest.mark.usefixtures("_both_forms")
def test_other_layouts() -> None:
    inputs = draw((6, 24))
    wanted = run(inputs)
    turned = [each.detach().T.contiguous().T.requires_grad_() for each in inputs[:2]]
    turned += [torch.stack([each.detach()] * 2, dim=-1)[:, 0].requires_grad_() for each in inputs[2:]]
    assert not any(each.is_contiguous() for each in turned)
    assert all(torch.equal(*pair) for pair in zip(run(turned), wanted, strict=True))
    # The gradient of a sum is one number in memory.
    output, rounded = add_and_normalise(*inputs, EPSILON)
    torch.autograd.grad(output.sum() + rounded.sum(), inputs)


@pytest.mark.usefixtures("_both_forms")
def test_what_is_no_number_is_seen() -> None:
    for value in (float("nan"), float("inf"), -float("inf")):
        for width, place in ((40, 35), (64, 3), (5, 4)):
            update, residual, weight, bias = draw((3, width))
            with torch.no_grad():
                update[1, place] = value
            outputs = add_and_normalise(update, residual, weight, bias, EPSILON)
            for output in outputs:
                assert torch.isfinite(output[::2]).all()
                assert torch.isnan(output[1]).all()
            (gradient,) = torch.autograd.grad(outputs[0].sum(), residual)
            assert torch.isfinite(gradient[::2]).all()
            assert torch.isnan(gradient[1]).all()


@pytest.mark.usefixtures("_both_forms")
def test_rows_of_one_number_everywhere() -> None:
    """Their variance is 0; what is left of a difference between equal numbers must not grow."""
    for width in (1, 24, 33, 768):
        rows = torch.full((2, width), 3.0)
        output, _ = add_and_normalise(rows.bfloat16(), rows, torch.ones(width), torch.zeros(width), 1e-12)
        assert torch.equal(output, torch.zeros(2, width))


@pytest.mark.usefixtures("_both_forms")
def test_it_keeps_the_sum_and_two_numbers_for_each_row() -> None:
    inputs = draw((4, 32))
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        add_and_normalise(*inputs, EPSILON)
    assert [(tuple(each.shape), each.dtype) for each in kept] == [
        ((4, 32), torch.float32), ((4, 1), torch.float32), ((4, 1), torch.float32), ((32,), torch.float32),
    ]  # fmt: skip


def test_tensors_without_numbers_give_the_same_shapes() -> None:
    inputs = draw((4, 32))
    empty = [each.detach().to("meta").requires_grad_() for each in inputs]
    outputs = add_and_normalise(*empty, EPSILON)
    gradients = torch.autograd.grad(outputs, empty, [torch.empty_like(each) for each in outputs])
    for one, other in zip([*outputs, *gradients], run(inputs), strict=True):
        assert one.device.type == "meta"
        assert (one.shape, one.dtype) == (other.shape, other.dtype)


def test_formats_that_the_kernel_does_not_know_are_left_to_torch() -> None:
    update, residual, weight, bias = (each.detach() for each in draw((3, 20)))
    wanted = functional.layer_norm(update.float() + residual, (20,), weight, bias, EPSILON)
    assert torch.equal(add_and_normalise(update.float(), residual, weight, bias, EPSILON)[0], wanted)
    inputs = [each.bfloat16().requires_grad_() for each in (update, residual, weight, bias)]
    outputs = add_and_normalise(*inputs, EPSILON)
    assert [each.dtype for each in outputs] == [torch.float32, torch.bfloat16]
    gradients = torch.autograd.grad(outputs[0].sum() + outputs[1].sum(), inputs)
    assert all(each.dtype == torch.bfloat16 for each in gradients)


@pytest.mark.usefixtures("_both_forms")
def test_shapes_that_do_not_belong_together_are_refused() -> None:
    update, residual, weight, bias = draw((3, 8))
    for wrong in (
        (update[:, :7], residual, weight, bias), (update, residual[:1], weight, bias),
        (update, residual, weight[:1], bias), (update, residual, weight, bias[:7]),
        (update[0, 0], residual[0, 0], weight, bias),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="rows as long as weight and bias are wanted"):
            add_and_normalise(*wrong, EPSILON)


def test_a_derivative_of_the_gradients_is_refused() -> None:
    inputs = draw((2, 3))
    output, _ = add_and_normalise(*inputs, EPSILON)
    (gradient,) = torch.autograd.grad(output.square().sum(), inputs[1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
