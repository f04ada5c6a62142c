"""A tensor's bf16 form is taken where it is at hand, as long as it is that of the tensor."""

from __future__ import annotations

import torch

from afina.kernels.rounded import find_rounded, remember_rounded


def test_the_form_at_hand_is_taken_until_something_is_written() -> None:
    tensor = torch.randn(3, 4)
    rounded = tensor.to(torch.bfloat16)
    assert torch.equal(find_rounded(tensor), rounded)
    remember_rounded(tensor, rounded)
    assert find_rounded(tensor) is rounded
    tensor.add_(1)
    assert torch.equal(find_rounded(tensor), tensor.to(torch.bfloat16))


def test_in_inference_mode_too() -> None:
    with torch.inference_mode():
        tensor = torch.randn(3, 4) + 1
        rounded = tensor.to(torch.bfloat16)
        remember_rounded(tensor, rounded)
        assert find_rounded(tensor) is rounded
        assert find_rounded(rounded) is rounded


def test_a_gradient_comes_through_either() -> None:
    tensor = torch.randn(3, 4, requires_grad=True)
    find_rounded(tensor).sum().backward()
    assert tensor.grad is not None
    output = tensor * 2
    rounded = output.to(torch.bfloat16)
    remember_rounded(output, rounded)
    (gradient,) = torch.autograd.grad(find_rounded(output).sum(), tensor)
    assert torch.equal(gradient, torch.full_like(tensor, 2))
