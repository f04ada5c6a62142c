"""Attention of long rows by tiles, forward and backward in one kernel each, for bf16 on CPUs.

    P = softmax(scaling Q K^T + mask),  O = P V
    dV = P^T dO,  dP = dO V^T,  dS = P (dP - rowsum(P dP)),  dQ = scaling dS K,  dK = scaling dS^T Q

Products of 32 by 32 numbers at a time, by the tiles of AMX or by AVX512-BF16, between which scores and probabilities
stay in a core's caches; blocks of keys that none of 32 queries may see aren't computed: half of them in causal rows,
most of them in packed rows. Nothing but the inputs and a number for each query is kept, and the backward pass computes
the probabilities again (Dao et al. 2022, arXiv 2205.14135). Sums are in fp32; P and dS are rounded to bf16 before they
are multiplied, and results once.

Letters: B rows, H heads of queries, K heads of keys, T queries, S keys, D width of a head; P = 3 for queries, keys and
values.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from afina.kernels.native import find_compiled, find_tile_unit, load_tile_kernels
from afina.kernels.short_attention import (
    AttentionTable,
    check_shapes,
    compute_plain,
    differentiate_plain,
    is_known,
    make_readable,
    make_rows,
    make_table,
    make_turned,
    unpack,
)

# Keys that the kernel has room for, as in tile_attention.h, and the widest head: with wider ones less fits the caches.
LONGEST = 8192
WIDEST = 128

Inputs = tuple[Tensor, Tensor, Tensor]


def suits_tiles(query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask: Tensor | None, is_causal: bool) -> bool:
    """Whether the kernel is there and computes it: bf16 on a CPU with a unit for it, no mask but yes and no."""
    keys, width = key_BKSD.shape[2:]
    fits = 0 < keys <= LONGEST and 0 < width <= WIDEST
    return fits and is_known(query_BHTD, key_BKSD, value_BKSD, mask, is_causal) and load_tile_kernels() is not None


def attend_tiles(
    query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask_BHTS: Tensor | None, scaling: float, is_causal: bool
) -> Tensor:
    """Attention's output, shape (B, H, T, D), laid out as (B, T, H, D). H is K or several times K.

    Args:
        mask_BHTS: True where a query may look; may be expanded. A query that may look nowhere looks everywhere alike.
        is_causal: whether query t looks at the keys up to t alone; takes no mask beside it.
    """
    return TileAttention.apply(query_BHTD, key_BKSD, value_BKSD, mask_BHTS, scaling, is_causal)  # type: ignore[no-untyped-call]


def attend_packed(qkv_BTPHD: Tensor, mask_BHTS: Tensor | None, scaling: float, is_causal: bool = False) -> Tensor:
    """The same of queries, keys and values in one tensor, which is contiguous; the output's shape is (B, T, H D)."""
    return PackedTileAttention.apply(qkv_BTPHD, mask_BHTS, scaling, is_causal)  # type: ignore[no-untyped-call]


class TileAttention(torch.autograd.Function):
    """Keeps its inputs, and the logarithm of each query's sum."""

    @staticmethod
    def forward(
        ctx: Any, query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask_BHTS: Tensor | None, scaling: float,
        is_causal: bool,
    ) -> Tensor:  # fmt: skip
        inputs = query_BHTD, key_BKSD, value_BKSD
        out_BHTD, logs_BHT = make_turned(query_BHTD), make_logs(ctx, query_BHTD)
        ctx.is_compiled = compute_tiles(inputs, mask_BHTS, scaling, is_causal, out_BHTD, logs_BHT)
        ctx.save_for_backward(*inputs, mask_BHTS, logs_BHT)
        ctx.settings = scaling, is_causal
        return out_BHTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query_BHTD, key_BKSD, value_BKSD, mask_BHTS, logs_BHT = ctx.saved_tensors
        scaling, is_causal = ctx.settings
        found = make_turned(query_BHTD), make_turned(key_BKSD), make_turned(value_BKSD)
        inputs, logs_BHT = (query_BHTD, key_BKSD, value_BKSD), logs_BHT if ctx.is_compiled else None
        differentiate_tiles(gradients[0], inputs, mask_BHTS, scaling, is_causal, logs_BHT, found)
        return *found, None, None, None


class PackedTileAttention(torch.autograd.Function):
    """Likewise; the gradient is one tensor too."""

    @staticmethod
    def forward(ctx: Any, qkv_BTPHD: Tensor, mask_BHTS: Tensor | None, scaling: float, is_causal: bool) -> Tensor:
        qkv_BTPHD = qkv_BTPHD.contiguous()
        inputs = unpack(qkv_BTPHD)
        out_BHTD, logs_BHT = make_turned(inputs[0]), make_logs(ctx, inputs[0])
        ctx.is_compiled = compute_tiles(inputs, mask_BHTS, scaling, is_causal, out_BHTD, logs_BHT)
        ctx.save_for_backward(qkv_BTPHD, mask_BHTS, logs_BHT)
        ctx.settings = scaling, is_causal
        return out_BHTD.transpose(1, 2).flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        qkv_BTPHD, mask_BHTS, logs_BHT = ctx.saved_tensors
        found_BTPHD = torch.empty_like(qkv_BTPHD)
        rows, places, _, heads, width = qkv_BTPHD.shape
        gradient_BHTD = gradients[0].reshape(rows, places, heads, width).transpose(1, 2)
        (scaling, is_causal), logs_BHT = ctx.settings, logs_BHT if ctx.is_compiled else None
        inputs, found = unpack(qkv_BTPHD), unpack(found_BTPHD)
        differentiate_tiles(gradient_BHTD, inputs, mask_BHTS, scaling, is_causal, logs_BHT, found)
        return found_BTPHD, None, None, None


def make_logs(ctx: Any, query_BHTD: Tensor) -> Tensor | None:
    """Room for the logarithms of sums, to base 2, shape (B, H, T); none where no gradient will be asked for."""
    return query_BHTD.new_empty(query_BHTD.shape[:3], dtype=torch.float32) if any(ctx.needs_input_grad) else None


def compute_tiles(
    inputs: Inputs, mask_BHTS: Tensor | None, scaling: float, is_causal: bool, out_BHTD: Tensor, logs_BHT: Tensor | None
) -> bool:
    """The output and the logarithms of sums, written to their places; gives whether the kernel did it.

    The plain form gives no logarithms, which its backward pass doesn't ask for.
    """
    library = find_tiles((), inputs, mask_BHTS, is_causal)
    if library is None:
        check_shapes(*inputs, mask_BHTS, is_causal)
        out_BHTD.copy_(compute_plain(*inputs, mask_BHTS, scaling, is_causal))
        return False
    mask_BHTS = make_readable(mask_BHTS)
    table = make_table(*inputs, mask_BHTS, scaling, is_causal)
    table.out = make_rows(out_BHTD)
    table.logs = None if logs_BHT is None else logs_BHT.data_ptr()
    run(library.afina_attend_tiles, table, inputs[1])
    return True


def differentiate_tiles(
    gradient_BHTD: Tensor, inputs: Inputs, mask_BHTS: Tensor | None, scaling: float, is_causal: bool,
    logs_BHT: Tensor | None, found: Inputs,
) -> None:  # fmt: skip
    """The gradients of queries, keys and values, written to their places; without logarithms by the plain form."""
    is_rounded = gradient_BHTD.dtype == torch.bfloat16
    library = find_tiles((gradient_BHTD,), inputs, mask_BHTS, is_causal) if is_rounded else None
    if library is None or logs_BHT is None:
        plain = differentiate_plain(gradient_BHTD, *inputs, mask_BHTS, scaling, is_causal)
        for place, each in zip(found, plain, strict=True):
            place.copy_(each)
        return
    if gradient_BHTD.shape != inputs[0].shape:
        raise ValueError(f"shapes are {tuple(gradient_BHTD.shape)} and {tuple(inputs[0].shape)}")
    gradient_BHTD, mask_BHTS = make_readable(gradient_BHTD), make_readable(mask_BHTS)
    table = make_table(*inputs, mask_BHTS, scaling, is_causal)
    table.gradient, table.logs = make_rows(gradient_BHTD), logs_BHT.data_ptr()
    table.query_gradient, table.key_gradient, table.value_gradient = map(make_rows, found)
    run(library.afina_differentiate_tiles, table, inputs[1])


def find_tiles(
    others: tuple[Tensor, ...], inputs: Inputs, mask_BHTS: Tensor | None, is_causal: bool
) -> ctypes.CDLL | None:
    """The library, if it computes this and all tensors lie in a CPU's memory."""
    masks = () if mask_BHTS is None else (mask_BHTS,)
    return find_compiled(*others, *inputs, *masks) if suits_tiles(*inputs, mask_BHTS, is_causal) else None


def run(kernel: Any, table: AttentionTable, key_BKSD: Tensor) -> None:
    """A pass over all heads of keys, which the threads share.

    Raises:
        MemoryError: if there is none for what a thread computes in, a few megabytes.
    """
    units = ctypes.c_int64(key_BKSD.shape[0] * key_BKSD.shape[1])
    if kernel(ctypes.byref(table), units, torch.get_num_threads(), find_tile_unit()):
        raise MemoryError("there is too little memory for attention's kernel")
