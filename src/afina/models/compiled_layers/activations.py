"""The exact GELU, where it is a layer of its own."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from afina.kernels.gelu import gelu
from afina.kernels.native import is_readable
from afina.models.compiled_layers.trial import FORMATS, ROWS, WIDTH, is_same, keep_name, make_unfilled, try_quietly

# By class: whether it is that function.
GELUS: dict[type, bool] = {}


def find_gelu_class(module: nn.Module) -> type | None:
    """The class that computes what the module does by a kernel."""
    kind: Any = type(module)
    if "GELU" not in kind.__name__ or module._modules or module._parameters:
        return None
    if kind not in GELUS:
        GELUS[kind] = all(is_gelu(module, dtype) for dtype in FORMATS)
    return make_gelu_class(kind) if GELUS[kind] else None


def is_gelu(module: nn.Module, dtype: torch.dtype) -> bool:
    """Whether the module is that function, in this format."""

    def compare() -> bool:
        random = torch.Generator().manual_seed(0)
        input = 3 * torch.randn(ROWS, WIDTH, generator=random, device="cpu").to(dtype)
        return is_same(module(input), functional.gelu(input))

    return try_quietly(compare)


@cache
def make_gelu_class(kind: Any) -> type:
    """The class with the kernel's forward."""

    class Gelu(kind):  # type: ignore[misc]
        is_compiled = True

        def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if args or kwargs or input.device.type != "cpu" or not is_readable(input):
                return super().forward(input, *args, **kwargs)
            return gelu(input)

        def __reduce_ex__(self, protocol: Any) -> Any:
            return make_unfilled, (make_gelu_class, kind), self.__dict__

    return keep_name(Gelu, kind)
