"""Trying a layer beside the plain form of a kernel, and the class that takes its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

FORMATS = (torch.bfloat16, torch.float32)
ROWS, WIDTH = 8, 48
# Numbers that may be rounded to the other side, since sums have another order, and by how much at most.
LARGEST_SHARE, LARGEST_ERROR = 0.02, 2.0**-7


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


def make_unfilled(make: Callable[..., type], *arguments: Any) -> Any:
    """A layer without its attributes, for copies and pickles: the class itself can't be found by its name."""
    kind: Any = make(*arguments)
    return kind.__new__(kind)


def keep_name(kind: type, original: type) -> type:
    """The class, by the name of the other one."""
    kind.__name__, kind.__qualname__, kind.__module__ = original.__name__, original.__qualname__, original.__module__
    return kind


def drops(dropout: nn.Module) -> bool:
    """Whether a layer of dropout does anything now."""
    return dropout.training and getattr(dropout, "p", 0.0) > 0


def has_hooks(*modules: nn.Module) -> bool:
    """Whether somebody looks at what goes in or out of one of these."""
    return any(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks for module in modules)
