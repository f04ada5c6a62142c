"""Layers that normalise by the root mean square."""

from __future__ import annotations

import copy
from functools import cache
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from afina.kernels.native import is_readable
from afina.kernels.norm import normalise, normalise_plain
from afina.models.compiled_layers.trial import FORMATS, ROWS, WIDTH, is_same, keep_name, make_unfilled, try_quietly

# By class and the name of its epsilon: whether it adds one to its weight; None for another kind of norm.
NORMS: dict[tuple[type, str], bool | None] = {}


def find_norm_class(module: nn.Module) -> type | None:
    """The class that computes what the module does by a kernel."""
    kind: Any = type(module)
    name = find_epsilon(module)
    if name is None:
        return None
    key = kind, name
    if key not in NORMS:
        NORMS[key] = try_norm(module, name)
    adds_one = NORMS[key]
    return None if adds_one is None else make_norm_class(kind, name, adds_one)


def find_epsilon(module: nn.Module) -> str | None:
    """The attribute that holds it, of a layer that may normalise by the root mean square."""
    is_likely = "RMSNorm" in type(module).__name__ and not module._modules and list(module._parameters) == ["weight"]
    if not is_likely or module.weight is None or module.weight.ndim != 1:
        return None
    return next((name for name in ("variance_epsilon", "eps") if isinstance(getattr(module, name, None), float)), None)


def try_norm(module: nn.Module, epsilon: str) -> bool | None:
    """See `NORMS`."""
    for adds_one in (False, True):
        if all(is_norm(module, epsilon, adds_one, *formats) for formats in product(FORMATS, FORMATS)):
            return adds_one
    return None


def is_norm(module: Any, epsilon: str, adds_one: bool, input_dtype: torch.dtype, weight_dtype: torch.dtype) -> bool:
    """Whether the module computes `normalise` with these formats."""
    random = torch.Generator().manual_seed(0)

    def compare() -> bool:
        weight_H, input = (torch.randn(shape, generator=random, device="cpu") for shape in (WIDTH, (ROWS, WIDTH)))
        weight_H, input = weight_H.to(weight_dtype), (3 * input).to(input_dtype)
        tried = copy.copy(module)
        tried.__dict__["_parameters"] = {"weight": nn.Parameter(weight_H, requires_grad=False)}
        found = type(module).forward(tried, input)
        return is_same(found, normalise_plain(input, weight_H, getattr(module, epsilon), adds_one)[0])

    return try_quietly(compare)


@cache
def make_norm_class(kind: Any, epsilon: str, adds_one: bool) -> type:
    """The class with the kernel's forward."""

    class Norm(kind):  # type: ignore[misc]
        is_compiled = True

        def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            weight = self.weight
            if args or kwargs or hidden_states.device.type != "cpu" or not is_readable(hidden_states, weight):
                return super().forward(hidden_states, *args, **kwargs)
            return normalise(hidden_states, weight, getattr(self, epsilon), adds_one=adds_one)

        def __reduce_ex__(self, protocol: Any) -> Any:
            return make_unfilled, (make_norm_class, kind, epsilon, adds_one), self.__dict__

    return keep_name(Norm, kind)
