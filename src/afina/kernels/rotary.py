"""Rotary positions of queries or keys, in one pass forwards and one backwards.

    y_1 = x_1 cos_1 - x_2 sin_1,   y_2 = x_2 cos_2 + x_1 sin_2
    dx_1 = dy_1 cos_1 + dy_2 sin_2,   dx_2 = dy_2 cos_2 - dy_1 sin_1

with 1 and 2 for the halves of a head. Su et al. 2021, arXiv 2104.09864, halves laid out as in GPT-NeoX and Llama. torch
takes seven passes over memory for it: two products, two halves turned about, a sign, a sum, and as many backwards.

Letters: B rows, H heads, T places, D width of a head.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from afina.kernels.native import find_compiled, is_readable


class RotaryTable(ctypes.Structure):
    """`struct rotary` of rotary.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("input", "cosines", "sines", "output")),
        *((name, ctypes.c_int64) for name in ("places", "heads", "half")),
        *((name, ctypes.c_int64) for name in ("input_row", "input_head", "input_place")),
        *((name, ctypes.c_int64) for name in ("output_row", "output_head", "output_place")),
        *((name, ctypes.c_int64) for name in ("angle_row", "angle_place")),
        *((name, ctypes.c_int32) for name in ("is_bf16", "rounds", "is_backward")),
    )  # fmt: skip


def turn(input_BHTD: Tensor, cosines_BTD: Tensor, sines_BTD: Tensor, rounds: bool) -> Tensor:
    """The input with each head turned, shape (B, H, T, D), in the format of all three.

    Args:
        cosines_BTD: of the angles; B may be 1.
        rounds: whether both products are rounded before they are added, as torch's operations do in that format.
    """
    return Turn.apply(input_BHTD, cosines_BTD, sines_BTD, rounds)  # type: ignore[no-untyped-call]


class Turn(torch.autograd.Function):
    """Keeps the angles."""

    @staticmethod
    def forward(ctx: Any, input_BHTD: Tensor, cosines_BTD: Tensor, sines_BTD: Tensor, rounds: bool) -> Tensor:
        ctx.save_for_backward(cosines_BTD, sines_BTD)
        ctx.rounds = rounds
        return compute(input_BHTD, cosines_BTD, sines_BTD, rounds, is_backward=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        cosines_BTD, sines_BTD = ctx.saved_tensors
        return compute(gradients[0], cosines_BTD, sines_BTD, ctx.rounds, is_backward=True), None, None, None


def suits_turn(input_BHTD: Tensor, cosines_BTD: Tensor, sines_BTD: Tensor) -> bool:
    """Whether `turn` computes this: heads of one even width, angles for each place, and one format."""
    if input_BHTD.ndim != 4 or cosines_BTD.ndim != 3 or cosines_BTD.shape != sines_BTD.shape:
        return False
    rows, _, places, width = input_BHTD.shape
    return (
        width % 2 == 0
        and cosines_BTD.shape[0] in (1, rows)
        and cosines_BTD.shape[1:] == (places, width)
        and input_BHTD.dtype == cosines_BTD.dtype == sines_BTD.dtype
        and not (cosines_BTD.requires_grad or sines_BTD.requires_grad)
    )


def compute(input_BHTD: Tensor, cosines_BTD: Tensor, sines_BTD: Tensor, rounds: bool, *, is_backward: bool) -> Tensor:
    """The output, or of its gradient that of the input; laid out as (B, T, H, D) by the kernel."""
    if not suits_turn(input_BHTD, cosines_BTD, sines_BTD):
        raise ValueError(
            f"heads of an even width and an angle for each place are wanted, in one format; heads are"
            f" {tuple(input_BHTD.shape)} in {input_BHTD.dtype}, angles {tuple(cosines_BTD.shape)} in"
            f" {cosines_BTD.dtype} and {tuple(sines_BTD.shape)} in {sines_BTD.dtype}"
        )
    tensors = input_BHTD, cosines_BTD, sines_BTD
    library = find_compiled(*tensors) if is_readable(*tensors) else None
    if library is None:
        return turn_plain(*tensors, rounds, is_backward=is_backward)
    input, (cosines, sines) = make_dense(input_BHTD), map(Tensor.contiguous, (cosines_BTD, sines_BTD))
    rows, heads, places, width = input.shape
    output = input.new_empty(rows, places, heads, width).transpose(1, 2)
    table = RotaryTable(
        input.data_ptr(), cosines.data_ptr(), sines.data_ptr(), output.data_ptr(), places, heads, width // 2,
        *input.stride()[:3], *output.stride()[:3],
        cosines.stride(0) if cosines.shape[0] > 1 else 0, width,
        input.dtype == torch.bfloat16, rounds, is_backward,
    )  # fmt: skip
    library.afina_turn(ctypes.byref(table), ctypes.c_int64(rows), torch.get_num_threads())
    return output


def make_dense(input_BHTD: Tensor) -> Tensor:
    """The tensor, or a copy of which the numbers of a head lie side by side."""
    return input_BHTD if input_BHTD.stride(3) == 1 else input_BHTD.contiguous()


def turn_plain(
    input_BHTD: Tensor, cosines_BTD: Tensor, sines_BTD: Tensor, rounds: bool, *, is_backward: bool
) -> Tensor:
    """The same by torch's operations."""
    dtype = input_BHTD.dtype
    wide = dtype if rounds else torch.promote_types(dtype, torch.float32)
    numbers, cosines, sines = input_BHTD.to(wide), cosines_BTD.to(wide).unsqueeze(1), sines_BTD.to(wide).unsqueeze(1)
    if is_backward:
        low, high = (numbers * sines).chunk(2, -1)
        return (numbers * cosines + torch.cat([high, -low], -1)).to(dtype)
    low, high = numbers.chunk(2, -1)
    return (numbers * cosines + torch.cat([-high, low], -1) * sines).to(dtype)
