"""Attention that turns its queries and keys by rotary positions, with a function of the module where it is defined.

Its class gets a forward that is the same code with another function under that name: nothing of transformers changes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from afina.kernels.rotary import suits_turn, turn, turn_plain
from afina.models.compiled_layers.trial import FORMATS, ROWS, is_same, keep_name, make_unfilled, try_quietly

NAME = "apply_rotary_pos_emb"
ARGUMENTS = ("q", "k", "cos", "sin")
HEADS, WIDTH = 3, 32
Rotate = Callable[..., tuple[Tensor, Tensor]]
# By function: whether products are rounded before they are added; None where it computes something else.
ROTATIONS: dict[Any, bool | None] = {}


def find_rotating_class(module: Any) -> type | None:
    """The class that computes what the module does, its queries and keys turned by a kernel."""
    kind: Any = type(module)
    rotate = getattr(kind.forward, "__globals__", {}).get(NAME)
    if rotate is None or not isinstance(kind.forward, FunctionType) or NAME not in kind.forward.__code__.co_names:
        return None
    if rotate not in ROTATIONS:
        ROTATIONS[rotate] = find_rounding(rotate)
    rounds = ROTATIONS[rotate]
    return None if rounds is None else make_rotating_class(kind, rounds)


def find_rounding(rotate: Rotate) -> bool | None:
    """Whether a function that turns queries and keys rounds both products first; None where it does something else."""
    return next((rounds for rounds in (True, False) if is_rotation(rotate, rounds)), None)


def is_rotation(rotate: Rotate, rounds: bool) -> bool:
    """Whether the function computes what the kernel does, in every format."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, device="cpu")

    def compare() -> bool:
        if tuple(inspect.signature(rotate).parameters)[: len(ARGUMENTS)] != ARGUMENTS:
            return False
        for dtype in FORMATS:
            inputs = [draw(2, heads, ROWS, WIDTH).to(dtype) for heads in (HEADS, 1)]
            # Whatever the angles are, so that halves that are swapped or shared would show.
            cos, sin = (draw(2, ROWS, WIDTH).to(dtype) for _ in range(2))
            wanted = [turn_plain(each, cos, sin, rounds, is_backward=False) for each in inputs]
            if not all(is_same(one, other) for one, other in zip(rotate(*inputs, cos, sin), wanted, strict=True)):
                return False
        return True

    return try_quietly(compare)


@cache
def make_rotating_class(kind: Any, rounds: bool) -> type:
    """The class with the kernel in the place of the function."""
    original = kind.forward
    rotate = original.__globals__[NAME]

    def rotate_by_kernel(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs or q.device.type != "cpu" or not (suits_turn(q, cos, sin) and suits_turn(k, cos, sin)):
            return rotate(q, k, cos, sin, *args, **kwargs)
        return turn(q, cos, sin, rounds), turn(k, cos, sin, rounds)

    forward = FunctionType(
        original.__code__, {**original.__globals__, NAME: rotate_by_kernel}, original.__name__, original.__defaults__,
        original.__closure__,
    )  # fmt: skip
    forward.__kwdefaults__ = original.__kwdefaults__
    forward.__annotations__, forward.__doc__ = original.__annotations__, original.__doc__

    def reduce(self: Any, protocol: Any) -> Any:
        return make_unfilled, (make_rotating_class, kind, rounds), self.__dict__

    members = {"is_compiled": True, "forward": forward, "__reduce_ex__": reduce}
    return keep_name(type(kind.__name__, (kind,), members), kind)
