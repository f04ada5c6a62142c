"""Attention for bf16 on CPUs: equal to torch's fused kernel, and many times as fast.

It chooses between three ways. Where the processor has the tiles of AMX, `tile_attention.py` computes all but the
shortest rows. Short rows are left to `short_attention.py`: there a head's products are less work than what is written
between them. All else is computed here from batched matrix products, up to six times as fast as the fused kernel.

The fused kernel multiplies small tiles one by one, its backward slowest of all. Batched products keep the cores' bf16
units busy: a few heads at a time are multiplied whole, as many as leave their scores in the cache, and where keeping
all probabilities would cost memory the backward pass computes them again. In fp32 the fused kernel is the faster one
and stays. docs/LOG.md has the figures.

    P = softmax(scaling Q K^T + mask),  O = P V
    dV = P^T dO,  dP = dO V^T,  dS = P (dP - rowsum(P dP)),  dQ = scaling dS K,  dK = scaling dS^T Q

Where several heads of queries share one of keys and values, they are multiplied with it together.

Letters: B rows, H heads of queries, K heads of keys, T queries, S keys, D width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from afina.kernels import short_attention, tile_attention
from afina.kernels.short_attention import attend_short, suits_short
from afina.kernels.softmax import compute_softmax_plain, differentiate_softmax, suits_softmax, take_softmax_
from afina.kernels.tile_attention import attend_tiles, suits_tiles

# Scores of one chunk: about what stays in a core's caches.
CHUNK_BYTES = 3 * 2**20
# Probabilities of a layer that are kept for the backward pass; where they are more, computing them again costs less.
KEPT_BYTES = 16 * 2**20
# Keys from which on tiles beat the kernel of short rows, which computes in fp32 and pads less: of 2,048 tokens, both
# ways, tiles take 2.2 to 2.9 times as long for 4 keys, 0.9 to 1.1 for 16, 0.5 to 0.9 for 20, and 0.3 to 0.6 for 32, for
# widths of 32 and 64, with a mask and causal.
FEWEST_TILED_KEYS = 17
# Without tiles, keys times width of a head up to which that kernel beats batched products on AMX: beyond, these
# gain more than their passes over memory cost. Of 224 and 2,048 tokens with 12 heads and a mask, both ways, it
# takes 0.4 to 0.8 of their time for 14 keys, 0.8 to 1.0 for 28 keys 64 wide, 0.8 to 1.1 for 56 keys 32 wide, and 1.2 to
# 1.9 for 64 keys 64 wide; without a gradient 0.7 to 0.85 for 48 keys 64 wide. Causal rows save half of its work alone.
SHORT_PLACES = 28 * 64
SHORT_PLACES_FORWARD = 48 * 64


def attend(
    query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask: Tensor | None, scaling: float, is_causal: bool
) -> Tensor:
    """Attention's output, shape (B, H, T, D), in the dtype of its inputs. H is K or several times K.

    Args:
        mask: True where a query may look, or numbers to add to the scores; can be expanded to (B, H, T, S).
        is_causal: whether a query looks at no later key. Takes no mask beside it, and T equal to S.
    """
    shape = (*query_BHTD.shape[:3], key_BKSD.shape[2])
    mask_BHTS = None if mask is None else mask.expand(shape)
    # Whatever the surrounding autocast would do to single operations, these stay in one dtype.
    with torch.autocast(query_BHTD.device.type, enabled=False):
        inputs = query_BHTD, key_BKSD, value_BKSD
        if key_BKSD.shape[2] >= FEWEST_TILED_KEYS and suits_tiles(*inputs, mask_BHTS, is_causal):
            return attend_tiles(*inputs, mask_BHTS, scaling, is_causal)
        if is_short(key_BKSD, is_causal) and suits_short(*inputs, mask_BHTS, is_causal):
            return attend_short(*inputs, mask_BHTS, scaling, is_causal)
        if torch.is_grad_enabled() and math.prod(shape) * query_BHTD.element_size() <= KEPT_BYTES:
            return attend_kept(query_BHTD, key_BKSD, value_BKSD, mask_BHTS, scaling, is_causal)
        groups = query_BHTD.shape[1] // key_BKSD.shape[1]
        pair = (each.repeat_interleave(groups, 1) if groups > 1 else each for each in (key_BKSD, value_BKSD))
        return ChunkedAttention.apply(query_BHTD, *pair, mask_BHTS, scaling, is_causal)  # type: ignore[no-untyped-call]


def attend_packed(qkv_BTPHD: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Attention's output, shape (B, T, H D), for queries, keys and values that one product gave.

    Args:
        qkv_BTPHD: contiguous; P is 3 for queries, keys and values.
        mask: True where a query may look; can be expanded to (B, H, T, T).
    """
    query, key, value = (each.transpose(1, 2) for each in qkv_BTPHD.unbind(2))
    mask_BHTS = None if mask is None else mask.expand(*query.shape[:3], key.shape[2])
    if key.shape[2] >= FEWEST_TILED_KEYS and suits_tiles(query, key, value, mask_BHTS, False):
        return tile_attention.attend_packed(qkv_BTPHD, mask_BHTS, scaling)
    if is_short(key, False) and suits_short(query, key, value, mask_BHTS, False):
        return short_attention.attend_packed(qkv_BTPHD, mask_BHTS, scaling)
    return attend(query, key, value, mask, scaling, False).transpose(1, 2).flatten(2)


def is_short(key_BKSD: Tensor, is_causal: bool) -> bool:
    """Whether a kernel in fp32 is faster than batched products."""
    most = SHORT_PLACES if torch.is_grad_enabled() else SHORT_PLACES_FORWARD
    return key_BKSD.shape[2] * key_BKSD.shape[3] <= (most * 3 // 2 if is_causal else most)


def attend_kept(
    query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask_BHTS: Tensor | None, scaling: float, is_causal: bool
) -> Tensor:
    """The same with all probabilities kept: the queries of all heads that share a head of keys are one matrix."""
    rows, heads, queries, width = query_BHTD.shape
    query = query_BHTD.reshape(rows, key_BKSD.shape[1], -1, width)
    weights = compute_probabilities(query, key_BKSD, mask_BHTS, scaling, is_causal, (rows, heads, queries))
    return (weights @ value_BKSD).view(rows, heads, queries, value_BKSD.shape[3])


def compute_probabilities(
    query: Tensor, key: Tensor, mask_BHTS: Tensor | None, scaling: float, is_causal: bool, shape_BHT: tuple[int, ...]
) -> Tensor:
    """Softmax over the keys of scaled scores, in the shape of the products; `shape_BHT` is that of the queries."""
    shape_BHTS = (*shape_BHT, key.shape[2])
    if suits_softmax(query.dtype, key.shape[2], mask_BHTS):
        return take_softmax_(query @ key.transpose(-1, -2), mask_BHTS, scaling, shape_BHTS, is_causal=is_causal)
    scores = (query * scaling) @ key.transpose(-1, -2)
    return compute_softmax_plain(scores.view(shape_BHTS), mask_BHTS, 1.0, is_causal).view(scores.shape)


class ChunkedAttention(torch.autograd.Function):
    """A few heads at a time, the probabilities of none of them kept."""

    @staticmethod
    def forward(
        ctx: Any, query_BHTD: Tensor, key_BHSD: Tensor, value_BHSD: Tensor, mask_BHTS: Tensor | None, scaling: float,
        is_causal: bool,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(query_BHTD, key_BHSD, value_BHSD, mask_BHTS)
        ctx.scaling, ctx.is_causal = scaling, is_causal
        rows, heads, queries, width = query_BHTD.shape
        out_BHTD = value_BHSD.new_empty(rows, queries, heads, width).transpose(1, 2)  # as the caller will lay it out
        for part in iterate_chunks(query_BHTD, key_BHSD):
            mask, query = None if mask_BHTS is None else mask_BHTS[part], query_BHTD[part]
            weights = compute_probabilities(query, key_BHSD[part], mask, scaling, is_causal, query.shape[:3])
            out_BHTD[part] = weights @ value_BHSD[part]
        return out_BHTD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query_BHTD, key_BHSD, value_BHSD, mask_BHTS = ctx.saved_tensors
        (out_grad_BHTD,) = gradients
        query_grad, key_grad, value_grad = (torch.empty_like(each) for each in (query_BHTD, key_BHSD, value_BHSD))
        for part in iterate_chunks(query_BHTD, key_BHSD):
            query, key, out_grad = query_BHTD[part], key_BHSD[part], out_grad_BHTD[part]
            mask = None if mask_BHTS is None else mask_BHTS[part]
            weights = compute_probabilities(query, key, mask, ctx.scaling, ctx.is_causal, query.shape[:3])
            value_grad[part] = weights.transpose(-1, -2) @ out_grad
            weights_grad = out_grad @ value_BHSD[part].transpose(-1, -2)
            scores_grad = differentiate_softmax(weights, weights_grad, 1.0, ctx.is_causal)
            query_grad[part] = (scores_grad @ key) * ctx.scaling
            key_grad[part] = scores_grad.transpose(-1, -2) @ (query * ctx.scaling)
        return query_grad, key_grad, value_grad, None, None, None


def iterate_chunks(query_BHTD: Tensor, key_BHSD: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of rows and of heads: whole rows where several fit, else heads of one row."""
    rows, heads, queries, _ = query_BHTD.shape
    fitting = max(1, CHUNK_BYTES // (queries * key_BHSD.shape[2] * query_BHTD.element_size()))
    if fitting >= heads:
        step = fitting // heads
        for row in range(0, rows, step):
            yield slice(row, row + step), slice(None)
        return
    for row in range(rows):
        for head in range(0, heads, fitting):
            yield slice(row, row + 1), slice(head, head + fitting)


def attention_forward(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, dropout: float = 0.0,
    scaling: float | None = None, is_causal: bool | None = None, **options: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """What transformers calls: `attend` where it is exact and fast, torch's fused kernel everywhere else.

    Returns:
        the output of shape (B, T, H, D), and None for the weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    causal = causal and attention_mask is None and query.shape[2] > 1
    if not suits_products(query, key, attention_mask, dropout, causal, options):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **options
        )
    dtype = find_compute_dtype(query)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    out_BHTD = attend(query.to(dtype), key.to(dtype), value.to(dtype), attention_mask, scaling, causal)
    return out_BHTD.transpose(1, 2).contiguous(), None


def suits_products(
    query: Tensor, key: Tensor, mask: Tensor | None, dropout: float, is_causal: bool, options: dict[str, Any]
) -> bool:
    """Whether `attend` computes this call: bf16 on a CPU, more than one query, nothing unusual asked for."""
    unusual = any(options.get(name) is not None for name in ("position_bias", "cache", "softcap", "s_aux"))
    return (
        query.device.type == "cpu"
        and find_compute_dtype(query) == torch.bfloat16
        and query.shape[2] > 1
        and (not is_causal or query.shape[2] == key.shape[2])
        and dropout == 0.0
        and not unusual
        and not (mask is not None and mask.requires_grad)
    )


def find_compute_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype that products of this tensor are computed in, autocast considered."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype
