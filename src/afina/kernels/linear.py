"""A linear layer that computes with a bf16 copy of its weights, made when they change and not at each step.

Under autocast torch casts fp32 weights to bf16 in each forward pass, and the bf16 gradients of the products back to
fp32 in each backward pass. Here the copies are what has a gradient, and it stays bf16. The weights themselves stay what
the layer is made of: their names, their dtype and what is saved are those of any linear layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

import torch
from torch import Tensor, nn
from torch.nn import functional

from afina.kernels.attention import find_compute_dtype
from afina.kernels.rounded import find_rounded

# Threads that compute side by side (`lanes.py`) find the same weight changed.
COPYING = Lock()


class Copy:
    """The bf16 form of a weight, made anew where torch has changed that; the kernel of a step writes both."""

    def __init__(self, weight: Tensor) -> None:
        self.tensor = weight.detach().to(torch.bfloat16).requires_grad_(weight.requires_grad)
        self.version = weight._version

    def follow(self, weight: Tensor) -> Tensor:
        """The copy of the weight as it is now."""
        if weight._version != self.version:
            with COPYING, torch.no_grad():
                if weight._version != self.version:  # no other thread has done it in between
                    self.tensor.copy_(weight)
                    self.version = weight._version
        return self.tensor


class CopiedLinear(nn.Linear):
    """A linear layer with copies. It is made of one by `copy_weights`, which `settle` undoes."""

    weight_copy: Copy
    bias_copy: Copy | None

    def forward(self, input: Tensor) -> Tensor:  # the name that nn.Linear gives it
        """Shape (..., out_features). In fp32 it computes with the weights themselves."""
        if find_compute_dtype(input) != torch.bfloat16:
            return super().forward(input)
        bias = None if self.bias_copy is None else self.bias_copy.follow(self.bias)
        return functional.linear(find_rounded(input), self.weight_copy.follow(self.weight), bias)

    def settle(self) -> None:
        """Be an ordinary layer again."""
        del self.weight_copy, self.bias_copy
        self.__class__ = nn.Linear  # type: ignore[assignment]


def copy_weights(layer: nn.Linear) -> None:
    """Make the layer a `CopiedLinear`, where it stands in its model."""
    layer.__class__ = CopiedLinear
    assert isinstance(layer, CopiedLinear)
    layer.weight_copy = Copy(layer.weight)
    layer.bias_copy = None if layer.bias is None else Copy(layer.bias)


@contextmanager
def hold_copies(layers: Sequence[nn.Linear]) -> Iterator[None]:
    """A context in which the layers have copies; afterwards they are ordinary ones, with what was learned in them."""
    for layer in layers:
        copy_weights(layer)
    try:
        yield
    finally:
        for layer in layers:
            if isinstance(layer, CopiedLinear):
                layer.settle()


def is_plain(layer: nn.Module) -> bool:
    """Whether the layer multiplies with its weight, adds its bias and does nothing else."""
    return type(layer) in (nn.Linear, CopiedLinear) and layer.bias is not None


def round_parameters(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """The weight and the bias of a plain layer in bf16, with their gradients: its copies, if it has some."""
    if isinstance(layer, CopiedLinear):
        assert layer.bias_copy is not None
        return layer.weight_copy.follow(layer.weight), layer.bias_copy.follow(layer.bias)
    return layer.weight.to(torch.bfloat16), layer.bias.to(torch.bfloat16)
