"""The sum of an update and a residual, layer-normalised, in one pass forwards and one backwards: post-norm layers.

    s = u + residual,  m = mean s,  r = 1 / sqrt(mean (s - m)^2 + epsilon),  n = (s - m) r,  y = w n + b
    dn = w dy,  ds = r (dn - mean dn - n mean(dn n)),  dw = sum over rows of dy n,  db = sum over rows of dy

Ba, Kiros & Hinton 2016, arXiv 1607.06450. Under autocast the update is bf16, as linear layers give it, the residual and
the output are fp32, and the next linear layers read the output in bf16: torch adds, normalises and rounds in a pass
each, and rounds once for each of these layers. Here the output is written in both formats at once. What comes back to
either is added up where it is read, and the gradient of s is written in fp32 for the residual, in bf16 for the update.

Letters: N rows, H their width.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from afina.kernels.native import find_compiled, is_readable

# Rows of one sum of the weight's gradient, as in add_norm.c.
BLOCK_ROWS = 32


class AddNormTable(ctypes.Structure):
    """`struct add_norm` of add_norm.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in (
            "update", "residual", "weight", "bias", "sum", "output", "rounded", "mean", "inverse", "gradient",
            "rounded_gradient", "residual_gradient", "update_gradient", "weight_gradient", "bias_gradient",
        )),
        ("width", ctypes.c_int64), ("epsilon", ctypes.c_float),
    )  # fmt: skip


def add_and_normalise(
    update: Tensor, residual: Tensor, weight_H: Tensor, bias_H: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """The normalised rows of `update + residual`, shape (..., H), in fp32 and the same rounded to bf16.

    Args:
        epsilon: what is added to the variance.

    Raises:
        ValueError: if the shapes don't belong together: nothing is expanded, and a kernel would read past an end.
    """
    if not (update.shape == residual.shape and update.shape[-1:] == weight_H.shape == bias_H.shape):
        raise ValueError(
            f"rows as long as weight and bias are wanted; update and residual are {tuple(update.shape)} and"
            f" {tuple(residual.shape)}, weight and bias {tuple(weight_H.shape)} and {tuple(bias_H.shape)}"
        )
    tensors = update, residual, weight_H, bias_H
    if torch.is_grad_enabled() and any(each.requires_grad for each in tensors):
        return AddAndNormalise.apply(*tensors, epsilon)  # type: ignore[no-untyped-call]
    output, rounded = compute(*tensors, epsilon, keeps=False)
    return output, rounded


class AddAndNormalise(torch.autograd.Function):
    """Keeps the sum and two numbers for each row."""

    @staticmethod
    def forward(
        ctx: Any, update: Tensor, residual: Tensor, weight_H: Tensor, bias_H: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        output, rounded, *kept = compute(update, residual, weight_H, bias_H, epsilon, keeps=True)
        ctx.save_for_backward(*kept, weight_H)
        ctx.dtypes = update.dtype, residual.dtype, weight_H.dtype, bias_H.dtype
        ctx.set_materialize_grads(False)
        return output, rounded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradients[0] is None and gradients[1] is None:
            return None, None, None, None, None
        found = differentiate(gradients[0], gradients[1], ctx.saved_tensors, ctx.needs_input_grad, ctx.dtypes[0])
        return *(
            each.to(dtype) if each is not None and is_wanted else None
            for each, dtype, is_wanted in zip(found, ctx.dtypes, ctx.needs_input_grad, strict=False)
        ), None


def compute(
    update: Tensor, residual: Tensor, weight_H: Tensor, bias_H: Tensor, epsilon: float, *, keeps: bool
) -> tuple[Tensor, ...]:
    """Output and rounded output, and if `keeps`, what the backward pass reads: s, and m and r of shape (..., 1)."""
    is_known = update.dtype == torch.bfloat16 and residual.dtype == torch.float32 and is_readable(weight_H, bias_H)
    library = find_compiled(update, residual, weight_H, bias_H) if is_known else None
    if library is None:
        plain = compute_plain(update, residual, weight_H, bias_H, epsilon)
        return plain if keeps else plain[:2]
    inputs = update.contiguous(), residual.contiguous(), weight_H.float().contiguous(), bias_H.float().contiguous()
    output, rounded = torch.empty_like(inputs[1]), torch.empty_like(inputs[0])
    # What nothing keeps lies where the output goes.
    sum, statistics = (torch.empty_like(output), make_statistics(output)) if keeps else (output, ())
    table = AddNormTable(*(each.data_ptr() for each in (*inputs, sum, output, rounded, *statistics)))
    table.width, table.epsilon = len(weight_H), epsilon
    run(library.afina_add_and_normalise, table, output)
    return output, rounded, *((sum, *statistics) if keeps else ())


def make_statistics(output: Tensor) -> tuple[Tensor, Tensor]:
    """Room for m and r."""
    shape = (*output.shape[:-1], 1)
    return output.new_empty(shape), output.new_empty(shape)


def differentiate(
    gradient: Tensor | None,
    rounded_gradient: Tensor | None,
    kept: tuple[Tensor, ...],
    is_wanted: tuple[bool, ...],
    update_dtype: torch.dtype,
) -> tuple[Tensor | None, ...]:
    """The gradients of update, residual, weight and bias.

    Args:
        gradient, rounded_gradient: of the two outputs; not both are None.
        kept: s, m, r and the weight.
        is_wanted: which are read, in this order; others may be None.
    """
    sum, mean, inverse, weight_H = kept
    sum = sum.contiguous()  # the plain form's has the layout of what it was added from
    given = [each for each in (gradient, rounded_gradient) if each is not None]
    is_known = update_dtype == torch.bfloat16 and sum.dtype == torch.float32 and is_readable(weight_H)
    library = find_compiled(*given, sum, weight_H) if is_known else None
    if library is None:
        return differentiate_plain(given, sum, mean, inverse, weight_H)
    weight = weight_H.float().contiguous()
    gradient = None if gradient is None else gradient.contiguous()
    rounded_gradient = None if rounded_gradient is None else rounded_gradient.contiguous()
    residual_gradient = torch.empty_like(sum)
    update_gradient = torch.empty_like(sum, dtype=update_dtype) if is_wanted[0] else None
    blocks = max(1, -(-mean.numel() // BLOCK_ROWS))
    sums = [sum.new_zeros(blocks, len(weight)) if each else None for each in is_wanted[2:4]]
    table = AddNormTable(None, None, weight.data_ptr(), None, sum.data_ptr())
    table.mean, table.inverse, table.width = mean.data_ptr(), inverse.data_ptr(), len(weight)
    table.residual_gradient, table.update_gradient = find_address(residual_gradient), find_address(update_gradient)
    table.gradient, table.rounded_gradient = find_address(gradient), find_address(rounded_gradient)
    table.weight_gradient, table.bias_gradient = find_address(sums[0]), find_address(sums[1])
    run(library.afina_differentiate_add_norm, table, sum)
    return update_gradient, residual_gradient, *(None if each is None else each[0] for each in sums)


def find_address(tensor: Tensor | None) -> int | None:
    """Where it lies; None where there is none."""
    return None if tensor is None else tensor.data_ptr()


def run(kernel: Any, table: AddNormTable, rows: Tensor) -> None:
    """The kernel on all of these rows."""
    kernel(ctypes.byref(table), ctypes.c_int64(rows.shape[:-1].numel()), torch.get_num_threads())


def compute_plain(
    update: Tensor, residual: Tensor, weight_H: Tensor, bias_H: Tensor, epsilon: float
) -> tuple[Tensor, ...]:
    """Output, rounded output, s, m and r by torch's operations."""
    sum = update + residual
    sum = sum.to(torch.promote_types(sum.dtype, torch.float32))
    weight, bias = weight_H.to(sum.dtype), bias_H.to(sum.dtype)
    output, mean, inverse = torch.native_layer_norm(sum, weight.shape, weight, bias, epsilon)
    return output, output.bfloat16(), sum, mean, inverse


def differentiate_plain(
    given: list[Tensor], sum: Tensor, mean: Tensor, inverse: Tensor, weight_H: Tensor
) -> tuple[Tensor, ...]:
    """The gradients likewise; `given` has those of the outputs that have one."""
    gradient = given[0].to(sum.dtype) if len(given) == 1 else given[0] + given[1]
    weight = weight_H.to(sum.dtype)
    # Of the bias its shape is read and nothing else.
    made = torch.ops.aten.native_layer_norm_backward(
        gradient, sum, weight.shape, mean, inverse, weight, weight, [True, True, True]
    )
    return made[0], *made
