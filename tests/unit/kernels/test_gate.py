"""The one-pass gate is torch's activation times the other tensor, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from afina.kernels import native
from afina.kernels.gate import ACTIVATIONS, Activation, multiply_gate

# Lengths around thirty-two, and more than one block.
SHAPES = [(1,), (3, 11), (2, 5, 16), (4, 33), (3, 8192), (0, 4)]
PLAIN = {"silu": functional.silu, "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh")}

needs_kernels = pytest.mark.skipif(native.load_layer_kernels() is None, reason="the kernels weren't compiled")


@pytest.fixture(autouse=True)
def _process() -> Iterator[None]:
    yield
    native.allow_compiled(True)


def draw(shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    """Gate, the other tensor and a direction; the gate also far out, where the activations are flat."""
    random = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=random, dtype=torch.float64) * scale for scale in (4, 1, 1)]
    if made[0].numel() > 8:
        made[0].view(-1)[:6] = torch.tensor([-200.0, -89.0, -20.0, 0.0, 30.0, 200.0], dtype=torch.float64)
    return [each.to(dtype) for each in made]


def run(apply: Any, shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    """Output and both gradients."""
    gate, up, direction = draw(shape, dtype)
    output = apply(gate.requires_grad_(), up.requires_grad_())
    return [output.detach(), *torch.autograd.grad(output, (gate, up), direction)]


@needs_kernels
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_are_those_of_torch(shape: tuple[int, ...], activation: Activation) -> None:
    for dtype, tolerance in ((torch.bfloat16, 2.0**-7), (torch.float32, 3e-6)):
        found = run(lambda gate, up: multiply_gate(gate, up, activation), shape, dtype)
        wanted = run(lambda gate, up: PLAIN[activation](gate) * up, shape, dtype)
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == dtype
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@needs_kernels
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bf16_is_torchs_to_the_bit_nearly_everywhere(activation: Activation) -> None:
    """Rounded where torch rounds. Far below 0 torch's tanh cancels to 0, and the kernel's sigmoid doesn't."""
    is_compared = draw((64, 200), torch.bfloat16)[0] > (-1 if activation == "gelu_tanh" else -100)
    found = run(lambda gate, up: multiply_gate(gate, up, activation), (64, 200), torch.bfloat16)
    wanted = run(lambda gate, up: PLAIN[activation](gate) * up, (64, 200), torch.bfloat16)
    for one, other in zip(found, wanted, strict=True):
        assert (one != other)[is_compared].float().mean() < 0.01


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_bits_do_not_depend_on_the_number_of_threads(dtype: torch.dtype) -> None:
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(run(lambda gate, up: multiply_gate(gate, up, "silu"), (5, 8200), dtype))
    for other in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(results[0], other, strict=True))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_the_derivatives(activation: Activation) -> None:
    gate, up, _ = draw((3, 2), torch.float64)
    inputs = [gate.requires_grad_(), up.requires_grad_()]
    assert torch.autograd.gradcheck(lambda gate, up: multiply_gate(gate, up, activation), inputs)


@pytest.mark.parametrize("is_compiled", [True, False])
def test_other_layouts_and_formats_that_differ(is_compiled: bool) -> None:
    native.allow_compiled(is_compiled)
    gate, up, direction = draw((6, 40), torch.bfloat16)
    wanted = multiply_gate(gate, up, "silu")
    turned = gate.T.contiguous().T.requires_grad_()
    output = multiply_gate(turned, up, "silu")
    assert torch.equal(output, wanted)
    output.backward(direction.T.contiguous().T)
    assert turned.grad is not None
    mixed = multiply_gate(gate, up.float(), "silu")
    assert torch.equal(mixed, functional.silu(gate) * up.float())
    assert multiply_gate(gate, up[:1], "silu").shape == gate.shape, "one row for all is torch's to multiply"


@pytest.mark.parametrize("is_compiled", [True, False])
def test_what_is_no_number_is_seen(is_compiled: bool) -> None:
    native.allow_compiled(is_compiled)
    gate, up, _ = draw((2, 40), torch.bfloat16)
    gate[1, 30] = float("nan")
    output = multiply_gate(gate, up, "silu")
    assert torch.isnan(output).nonzero().tolist() == [[1, 30]]


def test_it_keeps_its_inputs_and_nothing_else() -> None:
    gate, up, _ = draw((4, 8), torch.bfloat16)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        multiply_gate(gate.requires_grad_(), up, "silu")
    assert [each.nbytes for each in kept] == [64, 64]
