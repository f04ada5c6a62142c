"""The end of a block of BERT and its kin: what a linear layer gives is added to the block's input and normalised."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from afina.kernels.add_norm import add_and_normalise
from afina.kernels.attention import find_compute_dtype
from afina.kernels.rounded import remember_rounded
from afina.models.compiled_layers.trial import (
    ROWS,
    WIDTH,
    drops,
    has_hooks,
    is_same,
    keep_name,
    make_unfilled,
    try_quietly,
)  # fmt: skip

# By class: whether it is that.
RESIDUALS: dict[type, bool] = {}


def find_residual_class(module: nn.Module) -> type | None:
    """The class that computes what the module does by a kernel."""
    kind: Any = type(module)
    name = find_norm_name(module)
    if name is None:
        return None
    if kind not in RESIDUALS:
        RESIDUALS[kind] = is_residual(module, name)
    return make_residual_class(kind, name) if RESIDUALS[kind] else None


def find_norm_name(module: nn.Module) -> str | None:
    """The name of the norm, of a module that consists of a linear layer, one and dropout."""
    norms = {name: child for name, child in module._modules.items() if type(child) is nn.LayerNorm}
    if len(norms) != 1 or module._modules.keys() - norms.keys() != {"dense", "dropout"} or module._parameters:
        return None
    [(name, norm)] = norms.items()
    return name if norm.bias is not None and len(norm.normalized_shape) == 1 else None


def is_residual(module: Any, name: str) -> bool:
    """Whether the module normalises the sum."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, device="cpu")

    def compare() -> bool:
        norm = nn.LayerNorm(WIDTH, eps=getattr(module, name).eps, device="cpu")
        norm.weight.copy_(draw(WIDTH))
        norm.bias.copy_(draw(WIDTH))
        dense = nn.Linear(2 * WIDTH, WIDTH, device="cpu")
        dense.weight.copy_(draw(WIDTH, 2 * WIDTH) / WIDTH)
        tried = copy.copy(module)
        tried.__dict__["_modules"] = {"dense": dense, name: norm, "dropout": nn.Identity()}
        update, residual = draw(ROWS, 2 * WIDTH), draw(ROWS, WIDTH)
        wanted = functional.layer_norm(dense(update) + residual, (WIDTH,), norm.weight, norm.bias, norm.eps)
        return is_same(type(module).forward(tried, update, residual), wanted)

    return try_quietly(compare)


@cache
def make_residual_class(kind: Any, name: str) -> type:
    """The class with the kernel behind its linear layer."""

    class Residual(kind):  # type: ignore[misc]
        is_compiled = True

        def forward(self, hidden_states: Tensor, input_tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            norm, dropout = getattr(self, name), self.dropout
            is_unusual = args or kwargs or drops(dropout) or has_hooks(norm, dropout)
            if is_unusual or not suits_sum(hidden_states, input_tensor):
                return super().forward(hidden_states, input_tensor, *args, **kwargs)
            update = self.dense(hidden_states)
            if update.dtype != torch.bfloat16 or update.shape != input_tensor.shape:
                return norm(update + input_tensor)
            output, rounded = add_and_normalise(update, input_tensor, norm.weight, norm.bias, norm.eps)
            remember_rounded(output, rounded)
            return output

        def __reduce_ex__(self, protocol: Any) -> Any:
            return make_unfilled, (make_residual_class, kind, name), self.__dict__

    return keep_name(Residual, kind)


def suits_sum(update: Tensor, residual: Tensor) -> bool:
    """Whether the kernel knows these: products in bf16 beside a residual in fp32, as under autocast."""
    return (
        update.device.type == "cpu" and residual.dtype == torch.float32
        and find_compute_dtype(update) == torch.bfloat16
    )  # fmt: skip
