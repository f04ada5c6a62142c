"""Normalisation by the root mean square (RMSNorm) in one pass forwards and one backwards.

    r = 1 / sqrt(mean x^2 + epsilon),  n = r x,  y = w n
    dn = w dy,  dx = r dn - x r^3 mean(dn x),  dw = sum over rows of dy n

Zhang & Sennrich 2019, arXiv 1910.07467. transformers' layers are eight passes over memory forwards and twice that
backwards, and keep the input in fp32; this keeps it as it is, and r. Everything is computed in fp32 and rounded where
these layers round: n and dn to the format of x. Gemma's layers have w + 1 for w, and round at the end alone.

Letters: N rows, H their width.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from afina.kernels.native import find_compiled, is_readable

# Rows of one sum of the weight's gradient, as in norm.c.
BLOCK_ROWS = 32


class NormTable(ctypes.Structure):
    """`struct norm` of norm.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in (
            "input", "weight", "output", "inverse", "gradient", "input_gradient", "weight_gradient"
        )),
        ("width", ctypes.c_int64), ("epsilon", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("is_input_bf16", "is_weight_bf16", "is_output_bf16", "adds_one")),
    )  # fmt: skip


def normalise(input: Tensor, weight_H: Tensor, epsilon: float, *, adds_one: bool = False) -> Tensor:
    """The rows of `input`, shape (..., H), normalised and weighted.

    Args:
        epsilon: what is added to the mean square.
        adds_one: whether rows are multiplied by the weight + 1.
    """
    return Normalise.apply(input, weight_H, epsilon, adds_one)  # type: ignore[no-untyped-call]


class Normalise(torch.autograd.Function):
    """Keeps the input and a number for each row."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight_H: Tensor, epsilon: float, adds_one: bool) -> Tensor:
        input, weight_H = input.contiguous(), weight_H.contiguous()
        library = find_compiled(input, weight_H) if is_readable(input, weight_H) else None
        if library is None:
            output, inverse = normalise_plain(input, weight_H, epsilon, adds_one)
        else:
            output = torch.empty_like(input, dtype=find_output_dtype(input, weight_H, adds_one))
            inverse = input.new_empty(input.shape[:-1], dtype=torch.float32)
            table = make_table(input, weight_H, output, inverse, adds_one)
            table.output, table.epsilon = output.data_ptr(), epsilon
            library.afina_normalise(ctypes.byref(table), ctypes.c_int64(inverse.numel()), torch.get_num_threads())
        ctx.save_for_backward(input, weight_H, inverse)
        ctx.adds_one = adds_one
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        input, weight_H, inverse = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        is_weight_wanted = ctx.needs_input_grad[1]
        library = find_compiled(gradient, input, weight_H) if is_readable(gradient, input, weight_H) else None
        if library is None:
            found = differentiate_plain(gradient, input, weight_H, inverse, ctx.adds_one)
            return found[0], found[1] if is_weight_wanted else None, None, None
        rows, width = inverse.numel(), len(weight_H)
        sums = input.new_zeros(max(1, -(-rows // BLOCK_ROWS)) if is_weight_wanted else 0, width, dtype=torch.float32)
        input_gradient = torch.empty_like(input)
        table = make_table(input, weight_H, gradient, inverse, ctx.adds_one)
        table.gradient, table.input_gradient = gradient.data_ptr(), input_gradient.data_ptr()
        table.weight_gradient = sums.data_ptr() or None
        library.afina_differentiate_norm(ctypes.byref(table), ctypes.c_int64(rows), torch.get_num_threads())
        return input_gradient, sums[0].to(weight_H.dtype) if is_weight_wanted else None, None, None


def make_table(input: Tensor, weight_H: Tensor, output: Tensor, inverse: Tensor, adds_one: bool) -> NormTable:
    """What both passes are told. `output` stands for the output's format.

    Raises:
        ValueError: if the shapes don't belong together: the kernel would read past an end.
    """
    if input.shape[-1:] != weight_H.shape or output.shape != input.shape or inverse.shape != input.shape[:-1]:
        raise ValueError(
            f"rows as long as the weight are wanted; the rows are {tuple(input.shape)}, the weight"
            f" {tuple(weight_H.shape)}, the other rows {tuple(output.shape)}"
        )
    table = NormTable(input.data_ptr(), weight_H.data_ptr(), None, inverse.data_ptr())
    table.width, table.adds_one = len(weight_H), adds_one
    table.is_input_bf16 = input.dtype == torch.bfloat16
    table.is_weight_bf16 = weight_H.dtype == torch.bfloat16
    table.is_output_bf16 = output.dtype == torch.bfloat16
    return table


def find_output_dtype(input: Tensor, weight_H: Tensor, adds_one: bool) -> torch.dtype:
    """That of the layers of transformers."""
    return input.dtype if adds_one else torch.promote_types(input.dtype, weight_H.dtype)


def normalise_plain(input: Tensor, weight_H: Tensor, epsilon: float, adds_one: bool) -> tuple[Tensor, Tensor]:
    """Output and r by one operation after another."""
    wide = widen(input)
    inverse = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    if adds_one:
        output = (wide * inverse * (1.0 + widen(weight_H))).to(input.dtype)
    else:
        output = weight_H * (wide * inverse).to(input.dtype)
    return output, inverse[..., 0]


def differentiate_plain(
    gradient: Tensor, input: Tensor, weight_H: Tensor, inverse: Tensor, adds_one: bool
) -> tuple[Tensor, Tensor]:
    """The gradients of input and weight, likewise."""
    wide, inverse, wide_gradient = widen(input), inverse[..., None], widen(gradient)
    weight, normal = widen(weight_H), wide * inverse
    normal_gradient = wide_gradient * (weight + 1.0 if adds_one else weight)
    if not adds_one:
        normal, normal_gradient = (widen(each.to(input.dtype)) for each in (normal, normal_gradient))
    shrink = (normal_gradient * wide).mean(-1, keepdim=True) * inverse**3
    weight_gradient = (wide_gradient * normal).flatten(0, -2).sum(0)
    return (normal_gradient * inverse - wide * shrink).to(input.dtype), weight_gradient.to(weight_H.dtype)


def widen(tensor: Tensor) -> Tensor:
    """In fp32 at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
