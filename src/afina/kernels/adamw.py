"""AdamW's step in one pass over the weights: clipped, decayed, stepped, and rounded to bf16 where that is wanted.

    g = factor gradient,  m += (1 - beta1) (g - m),  v = beta2 v + (1 - beta2) g^2,
    w = (1 - rate decay) w - rate / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)

Loshchilov & Hutter 2019, arXiv 1711.05101. What memory moves is what a step of many small tensors costs on a CPU, and
torch's operations move it several times: for the norm, for clipping, for the step, for casts to fp32 and back.
`take_step` is the compiled kernel (adamw.c), `take_step_plain` the same bits by operations of torch and numpy.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from afina.kernels.native import load_library

# Numbers that a thread takes at a time, as in adamw.c.
BLOCK = 16384


class Moved(NamedTuple):
    """A tensor that is stepped. All of its parts are of one size."""

    weight: Tensor  # fp32, as the next two
    mean: Tensor
    square: Tensor
    gradient: Tensor  # bf16 or fp32
    copy: Tensor | None  # bf16, takes the new weight
    rate: float
    decay: float
    step: int  # from 1


class Constants(NamedTuple):
    """What all tensors of a step share."""

    factor: float
    """What gradients are multiplied by."""
    beta1: float
    beta2: float
    epsilon: float


class TensorTable(ctypes.Structure):
    """`struct tensor` of adamw.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weight", "mean", "square", "gradient", "bf16_gradient", "bf16_weight")),
        ("length", ctypes.c_int64), ("first_block", ctypes.c_int64),
        *((name, ctypes.c_float) for name in ("decay", "step_size", "rescale")),
    )  # fmt: skip


class Work(ctypes.Structure):
    """`struct work` of adamw.c."""

    _fields_ = (
        ("tensors", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("count", "blocks", "next")),
        *((name, ctypes.c_float) for name in ("factor", "rest1", "beta2", "rest2", "epsilon")),
        ("squares", ctypes.c_void_p),
    )


def take_step(moved: Sequence[Moved], constants: Constants) -> None:
    """Move all of them, in place.

    Raises:
        ValueError: for a tensor whose memory isn't as the kernel reads it, before anything is moved.
    """
    library = load_library()
    if library is None:
        take_step_plain(moved, constants)
        return
    table, blocks = (TensorTable * len(moved))(), 0
    for row, each in zip(table, moved, strict=True):
        for place in (each.weight, each.mean, each.square):
            check_memory(place, each.weight, torch.float32)
        row.weight, row.mean, row.square = each.weight.data_ptr(), each.mean.data_ptr(), each.square.data_ptr()
        if each.copy is not None:
            check_memory(each.copy, each.weight, torch.bfloat16)
            row.bf16_weight = each.copy.data_ptr()
        blocks = place_gradient(row, each.gradient, each.weight, blocks)
        row.decay, row.step_size, row.rescale = scale_step(each, constants)
    beta1, beta2 = constants.beta1, constants.beta2
    numbers = constants.factor, 1 - beta1, beta2, 1 - beta2, constants.epsilon
    work = Work(ctypes.addressof(table), len(table), blocks, 0, *numbers, None)
    library.afina_take_blocks(ctypes.byref(work), torch.get_num_threads())


@torch.no_grad()
def take_step_plain(moved: Sequence[Moved], constants: Constants) -> None:
    """The same by one operation after another, in the same order."""
    for each in moved:
        decay, step_size, rescale = scale_step(each, constants)
        gradient = each.gradient.float() * constants.factor
        each.mean.add_((gradient - each.mean).mul_(1 - constants.beta1))
        each.square.mul_(constants.beta2).add_((gradient * (1 - constants.beta2)).mul_(gradient))
        root = torch.from_numpy(np.sqrt(each.square.numpy()))  # torch's may differ in the last bit
        divisor = root.mul_(rescale).add_(constants.epsilon)
        each.weight.mul_(decay).sub_((each.mean * step_size).div_(divisor))
        if each.copy is not None:
            each.copy.copy_(each.weight)


def scale_step(each: Moved, constants: Constants) -> tuple[float, float, float]:
    """What its weight, its mean and the root of its square are multiplied by."""
    step_size = each.rate / (1 - constants.beta1**each.step)
    return 1 - each.rate * each.decay, step_size, 1 / math.sqrt(1 - constants.beta2**each.step)


def measure_norm(gradients: Sequence[Tensor]) -> float:
    """The L2 norm of all of them together, summed in fp64: the same for any number of threads.

    Raises:
        ValueError: as in `take_step`.
    """
    library = load_library()
    if library is None:
        return measure_norm_plain(gradients)
    table, blocks = (TensorTable * len(gradients))(), 0
    for row, gradient in zip(table, gradients, strict=True):
        blocks = place_gradient(row, gradient, gradient, blocks)
    squares = np.zeros(blocks)
    work = Work(ctypes.addressof(table), len(table), blocks, 0, 1.0, 0.0, 0.0, 0.0, 0.0, squares.ctypes.data)
    library.afina_take_blocks(ctypes.byref(work), torch.get_num_threads())
    return math.sqrt(squares.sum())


def measure_norm_plain(gradients: Sequence[Tensor]) -> float:
    """The same up to the last digits of fp64."""
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))


def place_gradient(row: TensorTable, gradient: Tensor, weight: Tensor, blocks: int) -> int:
    """Write down where the gradient of so many numbers is; gives the blocks up to its end."""
    if gradient.dtype == torch.bfloat16:
        check_memory(gradient, weight, torch.bfloat16)
        row.bf16_gradient = gradient.data_ptr()
    else:
        check_memory(gradient, weight, torch.float32)
        row.gradient = gradient.data_ptr()
    row.length, row.first_block = weight.numel(), blocks
    return blocks - -weight.numel() // BLOCK


def check_memory(tensor: Tensor, weight: Tensor, dtype: torch.dtype) -> None:
    """Whether the kernel may be given its address: anything else would be read past its end."""
    if (
        tensor.dtype != dtype
        or tensor.shape != weight.shape
        or tensor.device.type != "cpu"
        or not tensor.is_contiguous()
    ):
        raise ValueError(
            f"a {dtype} tensor of shape {tuple(weight.shape)}, contiguous and on a CPU, is wanted; this one is"
            f" {tensor.dtype}, {tuple(tensor.shape)}, strides {tensor.stride()}, on {tensor.device}"
        )
