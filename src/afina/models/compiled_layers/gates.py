"""Layers that multiply an activated projection with another one, and project back."""

from __future__ import annotations

import copy
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from afina.kernels.gate import ACTIVATIONS, Activation, activate_plain, multiply_gate
from afina.models.compiled_layers.trial import FORMATS, ROWS, WIDTH, is_same, keep_name, make_unfilled, try_quietly

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
# By the classes of layer and activation: which activation of the kernel that is; None for another kind of layer.
GATES: dict[tuple[type, type], Activation | None] = {}


def find_gated_class(module: Any) -> type | None:
    """The class that computes what the module does by a kernel."""
    if not has_gate(module):
        return None
    kind: Any = type(module)
    pair = kind, type(module.act_fn)
    if pair not in GATES:
        GATES[pair] = try_gate(module)
    activation = GATES[pair]
    return None if activation is None else make_gated_class(kind, activation)


def has_gate(module: nn.Module) -> bool:
    """Whether it may multiply an activated projection with another one, and project back."""
    is_likely = "MLP" in type(module).__name__ and not module._parameters
    return is_likely and sorted(module._modules) == sorted((*PROJECTIONS, "act_fn"))


def try_gate(module: nn.Module) -> Activation | None:
    """See `GATES`."""
    return next((each for each in ACTIVATIONS if all(is_gate(module, each, dtype) for dtype in FORMATS)), None)


def is_gate(module: Any, activation: Activation, dtype: torch.dtype) -> bool:
    """Whether the module computes `multiply_gate` between its projections, in this format."""
    random = torch.Generator().manual_seed(0)

    def compare() -> bool:
        weights = [torch.randn(WIDTH, WIDTH, generator=random, device="cpu").to(dtype) / WIDTH**0.5 for _ in range(3)]
        input = torch.randn(ROWS, WIDTH, generator=random, device="cpu").to(dtype) * 3
        tried = copy.copy(module)
        tried.__dict__["_modules"] = {**{name: nn.Identity() for name in PROJECTIONS}, "act_fn": module.act_fn}
        for name, weight in zip(PROJECTIONS, weights, strict=True):
            tried._modules[name].forward = partial(functional.linear, weight=weight)
        gate, up = functional.linear(input, weights[0]), functional.linear(input, weights[1])
        wanted = functional.linear(activate_plain(gate, activation) * up, weights[2])
        return is_same(type(module).forward(tried, input), wanted)

    return try_quietly(compare)


@cache
def make_gated_class(kind: Any, activation: Activation) -> type:
    """The class with the kernel between its projections."""

    class Gated(kind):  # type: ignore[misc]
        is_compiled = True

        def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if args or kwargs or x.device.type != "cpu":
                return super().forward(x, *args, **kwargs)
            return self.down_proj(multiply_gate(self.gate_proj(x), self.up_proj(x), activation))

        def __reduce_ex__(self, protocol: Any) -> Any:
            return make_unfilled, (make_gated_class, kind, activation), self.__dict__

    return keep_name(Gated, kind)
