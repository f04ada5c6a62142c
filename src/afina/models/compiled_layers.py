"""Layers of a model that compute by compiled kernels: those that were seen to compute what the kernels do.

Many classes of transformers are alike but for their names, and some differ by a rounding, so names prove nothing. A
class is tried once on random numbers, with random weights, in every pair of formats; where its output isn't that of the
plain form of a kernel, its layers stay as they are. A layer that is changed keeps its name, its parameters and its
place; only its forward is another one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache, partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import _disable_current_modes

from afina.kernels.gate import ACTIVATIONS, Activation, activate_plain, multiply_gate
from afina.kernels.native import is_readable, load_library
from afina.kernels.norm import normalise, normalise_plain

FORMATS = (torch.bfloat16, torch.float32)
ROWS, WIDTH = 8, 48
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
# Numbers that may be rounded to the other side, since sums have another order, and by how much at most.
LARGEST_SHARE, LARGEST_ERROR = 0.02, 2.0**-7


def use_compiled_layers(model: nn.Module) -> int:
    """Make the layers of a model compute by kernels, if there are some; gives how many layers that are."""
    changed = 0
    for module in model.modules() if load_library() is not None else ():
        kind = find_compiled_class(module)
        if kind is not None:
            module.__class__ = kind
            changed += 1
    return changed


def find_compiled_class(module: nn.Module) -> type | None:
    """The class that computes what the module does by a kernel."""
    if hasattr(module, "is_compiled"):
        return None
    kind: Any = type(module)
    name = find_epsilon(module)
    if name is not None:
        key = kind, name
        if key not in NORMS:
            NORMS[key] = try_norm(module, name)
        adds_one = NORMS[key]
        return None if adds_one is None else make_norm_class(kind, name, adds_one)
    if not has_gate(module):
        return None
    pair = kind, type(module.act_fn)
    if pair not in GATES:
        GATES[pair] = try_gate(module)
    activation = GATES[pair]
    return None if activation is None else make_gated_class(kind, activation)


# By class and the name of its epsilon: whether it adds one to its weight; None for another kind of norm.
NORMS: dict[tuple[type, str], bool | None] = {}
# By the classes of layer and activation: which activation of the kernel that is; None for another kind of layer.
GATES: dict[tuple[type, type], Activation | None] = {}


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


def try_quietly(compare: Callable[[], bool]) -> bool:
    """What it says, computed with numbers whatever the surroundings are; False where the module can't be tried."""
    try:
        with _disable_current_modes(), torch.no_grad(), torch.autocast("cpu", enabled=False):
            return compare()
    except Exception:  # a module of another make may ask for anything
        return False


def is_same(found: Any, wanted: Tensor) -> bool:
    """Whether the two are equal up to the order of a sum."""
    if not isinstance(found, Tensor) or found.dtype != wanted.dtype or found.shape != wanted.shape:
        return False
    error = (found.double() - wanted.double()).abs() / wanted.double().abs().clamp(min=1e-6)
    # Of fp32 numbers all are off by a little; of bf16 ones a few are, by the distance of two of them.
    limit, share = (LARGEST_ERROR, LARGEST_SHARE) if wanted.dtype == torch.bfloat16 else (1e-5, 1.0)
    return bool(error.max() <= limit) and float((error > 0).double().mean()) <= share


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


def make_unfilled(make: Callable[..., type], *arguments: Any) -> Any:
    """A layer without its attributes, for copies and pickles: the class itself can't be found by its name."""
    kind: Any = make(*arguments)
    return kind.__new__(kind)


def keep_name(kind: type, original: type) -> type:
    """The class, by the name of the other one."""
    kind.__name__, kind.__qualname__, kind.__module__ = original.__name__, original.__qualname__, original.__module__
    return kind
