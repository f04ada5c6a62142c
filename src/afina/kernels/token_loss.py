"""The loss of rows of bf16 logits and its gradient where they lie, in one pass over memory, on CPUs.

    z = scale logits,  loss = log sum exp(z) - z_target,  gradient = softmax(z) - onehot(target)

torch's operations hold a block of rows in fp32 and go over it five times. Here a row stays in the cache while its
largest number, its sum and its gradient are taken. Sums of a row are in fp64, the rest in fp32. The gradient is that
of z.

Letters: R rows, V tokens of the vocabulary.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from afina.kernels.native import find_compiled


class LossTable(ctypes.Structure):
    """`struct loss` of token_loss.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("logits", "targets", "losses", "likeliest")),
        ("tokens", ctypes.c_int64), ("scale", ctypes.c_float), ("is_gradient_wanted", ctypes.c_int32),
    )  # fmt: skip


def suits_kernel(logits_RV: Tensor, bias_V: Tensor | None, softcap: float | None) -> bool:
    """Whether the kernel is there and computes it: bf16, without what is added or bent before the softmax."""
    is_plain = logits_RV.dtype == torch.bfloat16 and bias_V is None and softcap is None
    return is_plain and logits_RV.is_contiguous() and logits_RV.shape[1] > 0 and find_compiled(logits_RV) is not None


def take_losses(
    logits_RV: Tensor, targets_R: Tensor, scale: float, *, is_gradient_wanted: bool = False, counts: bool = False
) -> tuple[Tensor, Tensor]:
    """The loss of each row in fp64, and the likeliest token of each if `counts`. Only where `suits_kernel` says so.

    Args:
        is_gradient_wanted: whether the logits become the gradient.

    Raises:
        IndexError: for a target that is no token, which the kernel would read from another's memory.
    """
    rows, tokens = logits_RV.shape
    targets_R = targets_R.to(torch.int64).contiguous()
    if targets_R.shape != (rows,) or (rows and not 0 <= int(targets_R.min()) <= int(targets_R.max()) < tokens):
        raise IndexError(f"{rows} targets from 0 to {tokens - 1} are wanted, found {tuple(targets_R.shape)} others")
    losses_R = torch.empty(rows, dtype=torch.float64)
    likeliest_R = torch.empty(rows if counts else 0, dtype=torch.int64)
    table = LossTable(logits_RV.data_ptr(), targets_R.data_ptr(), losses_R.data_ptr(), likeliest_R.data_ptr() or None)
    table.tokens, table.scale, table.is_gradient_wanted = tokens, scale, is_gradient_wanted
    library = find_compiled(logits_RV, targets_R)
    assert library is not None
    library.afina_take_loss(ctypes.byref(table), ctypes.c_int64(rows), torch.get_num_threads())
    return losses_R, likeliest_R
