"""A linear layer with bf16 copies computes what autocast makes of it, to the last bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from afina.kernels.linear import CopiedLinear, copy_weights


def make_layer(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(24, 40, bias=bias)


def compute(layer: nn.Linear, input: Tensor, *, bf16: bool = True) -> tuple[Tensor, Tensor]:
    """The output, and the gradient of the input."""
    input = input.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = layer(input)
    output.float().square().sum().backward()  # type: ignore[no-untyped-call]
    assert input.grad is not None
    return output.detach(), input.grad


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6, 24), (2, 5, 24)])
def test_outputs_and_gradients_are_those_of_autocast(bias: bool, shape: tuple[int, ...]) -> None:
    plain, copied, input = make_layer(bias), make_layer(bias), torch.randn(shape)
    copy_weights(copied)
    for found, wanted in zip(compute(copied, input), compute(plain, input), strict=True):
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)
    assert isinstance(copied, CopiedLinear)
    pairs = [(plain.weight, copied.weight_copy)] + ([(plain.bias, copied.bias_copy)] if copied.bias_copy else [])
    assert len(pairs) == 1 + bias
    for parameter, copy in pairs:
        assert parameter.grad is not None
        assert copy.tensor.grad is not None
        assert copy.tensor.grad.dtype == torch.bfloat16
        assert torch.equal(copy.tensor.grad.float(), parameter.grad)
    assert copied.weight.grad is None


def test_in_fp32_it_is_an_ordinary_layer() -> None:
    plain, copied, input = make_layer(), make_layer(), torch.randn(6, 24)
    copy_weights(copied)
    for found, wanted in zip(compute(copied, input, bf16=False), compute(plain, input, bf16=False), strict=True):
        assert torch.equal(found, wanted)
    assert copied.weight.grad is not None
    assert torch.equal(copied.weight.grad, plain.weight.grad)


@pytest.mark.parametrize("inference", [True, False])
def test_weights_that_were_put_in_are_what_it_computes_with(inference: bool) -> None:
    plain, copied, input = make_layer(), make_layer(), torch.randn(6, 24)
    copy_weights(copied)
    compute(copied, input)
    assert isinstance(copied, CopiedLinear)
    held = copied.weight_copy.tensor
    with torch.no_grad():
        for layer in (plain, copied):
            layer.weight.copy_(torch.ones(40, 24))
            layer.bias.mul_(2.0)
    with torch.inference_mode(inference), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(copied(input), plain(input))
    assert copied.weight_copy.tensor is held  # the optimizer knows it


def test_names_and_dtypes_stay_and_it_becomes_ordinary_again() -> None:
    layer = make_layer()
    before = dict(layer.named_parameters())
    copy_weights(layer)
    assert isinstance(layer, CopiedLinear)
    assert dict(layer.named_parameters()) == before
    assert list(layer.state_dict()) == ["weight", "bias"]
    layer.settle()
    assert type(layer) is nn.Linear
    assert vars(layer).keys() == vars(make_layer()).keys()
