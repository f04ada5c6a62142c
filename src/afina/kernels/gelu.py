"""The exact GELU of bf16 tensors on CPUs, in one pass forwards and one backwards, from tables.

    y = x Phi(x),  dx = (Phi(x) + x phi(x)) dy

with the normal distribution's Phi and its density phi; Hendrycks & Gimpel 2016, arXiv 1606.08415. There are 65,536 bf16
numbers: y is computed once for each in fp64 and rounded once, the derivative likewise in fp32. A number of a layer then
costs two reads and a write, less than an exponential or a quotient, and the few kilobytes of the tables where a layer's
numbers lie stay in the nearest cache. Phi comes from erfc: 1 + erf(x) is 0 where it still has to be 1e-20.

fp32 tensors and others are computed by torch, which vectorises erf and keeps the input alone too.
"""

from __future__ import annotations

import ctypes
import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from afina.kernels.native import find_compiled

BF16_NUMBERS = 2**16


class GeluTable(ctypes.Structure):
    """`struct gelu` of gelu.c."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("input", "output", "gradient", "values", "slopes"))


def gelu(input: Tensor) -> Tensor:
    """The exact GELU of each number, in the format of the input."""
    if torch.is_grad_enabled() and input.requires_grad:
        return Gelu.apply(input)  # type: ignore[no-untyped-call]
    return compute(input.contiguous())


class Gelu(torch.autograd.Function):
    """Keeps the input."""

    @staticmethod
    def forward(ctx: Any, input: Tensor) -> Tensor:
        input = input.contiguous()
        ctx.save_for_backward(input)
        return compute(input)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (input,) = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        library = find_compiled(input, gradient) if input.dtype == gradient.dtype == torch.bfloat16 else None
        if library is None:
            return torch.ops.aten.gelu_backward(gradient, input)
        return run(library.afina_differentiate_gelu, input, gradient)


def compute(input: Tensor) -> Tensor:
    """The output for a contiguous input."""
    library = find_compiled(input) if input.dtype == torch.bfloat16 else None
    return functional.gelu(input) if library is None else run(library.afina_apply_gelu, input)


def run(kernel: Any, input: Tensor, gradient: Tensor | None = None) -> Tensor:
    """What the kernel makes of input and gradient, which are contiguous and have one shape."""
    output = torch.empty_like(input)
    values, slopes = make_tables()
    table = GeluTable(input.data_ptr(), output.data_ptr(), None, values.data_ptr(), slopes.data_ptr())
    table.gradient = None if gradient is None else gradient.data_ptr()
    kernel(ctypes.byref(table), ctypes.c_int64(input.numel()), torch.get_num_threads())
    return output


@lru_cache(maxsize=1)
def make_tables() -> tuple[Tensor, Tensor]:
    """y of every bf16 number, in bf16, and its derivative, in fp32, in the order of the numbers' bits."""
    values, slopes = compute_exactly(list_numbers().double())
    return values.bfloat16(), slopes.float()


def list_numbers() -> Tensor:
    """Every bf16 number, in the order of its bits."""
    return torch.arange(BF16_NUMBERS, device="cpu").to(torch.int16).view(torch.bfloat16)


def compute_exactly(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """y and its derivative."""
    share = torch.erfc(numbers * -math.sqrt(0.5)) * 0.5
    density = torch.exp(numbers.square() * -0.5) / math.sqrt(2.0 * math.pi)
    return numbers * share, share + numbers * density
