"""Attention of short rows, forward and backward in one kernel each, for bf16 on CPUs.

    P = softmax(scaling Q K^T + mask),  O = P V
    dV = P^T dO,  dP = dO V^T,  dS = P (dP - rowsum(P dP)),  dQ = scaling dS K,  dK = scaling dS^T Q

Of short rows the products of a head are so small that writing scores and probabilities to memory, and turning heads
about, costs several times what the products do. Here all that belongs to a head of keys stays in a core's caches, and
is computed in fp32; the results are rounded once. The backward pass computes the probabilities again, as in Dao et al.
2022, arXiv 2205.14135. Long rows are left to batched products, which use the cores' bf16 units.

Letters: B rows, H heads of queries, K heads of keys, T queries, S keys, D width of a head; P = 3 for queries, keys and
values.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from afina.kernels.native import find_compiled, load_layer_kernels
from afina.kernels.softmax import compute_softmax_plain

# Keys and width of a head that the kernel has room for, as in short_attention.c.
LONGEST = 128
WIDEST = 128


class RowsTable(ctypes.Structure):
    """`struct rows` of attention.h."""

    _fields_ = (("numbers", ctypes.c_void_p), *((name, ctypes.c_int64) for name in ("batch", "head", "place")))


class AttentionTable(ctypes.Structure):
    """`struct attention` of attention.h."""

    _fields_ = (
        *((name, RowsTable) for name in ("query", "key", "value", "mask", "out", "gradient")),
        *((name, RowsTable) for name in ("query_gradient", "key_gradient", "value_gradient")),
        ("logs", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("heads", "groups", "queries", "keys", "width")),
        ("scaling", ctypes.c_float), ("is_causal", ctypes.c_int32),
    )  # fmt: skip


def suits_short(query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask: Tensor | None, is_causal: bool) -> bool:
    """Whether the kernel is there and computes it: bf16 on a CPU, few keys, no mask but one of yes and no."""
    keys, width = key_BKSD.shape[2:]
    fits = 0 < keys <= LONGEST and 0 < width <= WIDEST
    return fits and is_known(query_BHTD, key_BKSD, value_BKSD, mask, is_causal) and load_layer_kernels() is not None


def is_known(query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask: Tensor | None, is_causal: bool) -> bool:
    """Whether these are what kernels of attention read: bf16 on a CPU, rows of one piece, no mask but yes and no."""
    return (
        query_BHTD.dtype == key_BKSD.dtype == value_BKSD.dtype == torch.bfloat16
        and query_BHTD.device.type == "cpu"
        and query_BHTD.stride(3) == key_BKSD.stride(3) == value_BKSD.stride(3) == 1
        and value_BKSD.shape == key_BKSD.shape
        and (mask is None or (mask.dtype == torch.bool and not is_causal))
        and (not is_causal or query_BHTD.shape[2] <= key_BKSD.shape[2])
    )


def attend_short(
    query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask_BHTS: Tensor | None, scaling: float, is_causal: bool
) -> Tensor:
    """Attention's output, shape (B, H, T, D), laid out as (B, T, H, D). H is K or several times K.

    Args:
        mask_BHTS: True where a query may look; may be expanded. A query that may look nowhere looks everywhere alike.
        is_causal: whether query t looks at the keys up to t alone; takes no mask beside it.
    """
    return ShortAttention.apply(query_BHTD, key_BKSD, value_BKSD, mask_BHTS, scaling, is_causal)  # type: ignore[no-untyped-call]


def attend_packed(qkv_BTPHD: Tensor, mask_BHTS: Tensor | None, scaling: float, is_causal: bool = False) -> Tensor:
    """The same of queries, keys and values in one tensor, which is contiguous; the output's shape is (B, T, H D)."""
    return PackedAttention.apply(qkv_BTPHD, mask_BHTS, scaling, is_causal)  # type: ignore[no-untyped-call]


class ShortAttention(torch.autograd.Function):
    """Keeps its inputs."""

    @staticmethod
    def forward(
        ctx: Any, query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask_BHTS: Tensor | None, scaling: float,
        is_causal: bool,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(query_BHTD, key_BKSD, value_BKSD, mask_BHTS)
        ctx.settings = scaling, is_causal
        out_BHTD = make_turned(query_BHTD)
        compute_short(query_BHTD, key_BKSD, value_BKSD, mask_BHTS, scaling, is_causal, out_BHTD)
        return out_BHTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query_BHTD, key_BKSD, value_BKSD, mask_BHTS = ctx.saved_tensors
        scaling, is_causal = ctx.settings
        inputs = query_BHTD, key_BKSD, value_BKSD
        found = make_turned(query_BHTD), make_turned(key_BKSD), make_turned(value_BKSD)
        differentiate_short(gradients[0], inputs, mask_BHTS, scaling, is_causal, found)
        return *found, None, None, None


class PackedAttention(torch.autograd.Function):
    """Likewise; the gradient is one tensor too."""

    @staticmethod
    def forward(ctx: Any, qkv_BTPHD: Tensor, mask_BHTS: Tensor | None, scaling: float, is_causal: bool) -> Tensor:
        qkv_BTPHD = qkv_BTPHD.contiguous()
        ctx.save_for_backward(qkv_BTPHD, mask_BHTS)
        ctx.settings = scaling, is_causal
        query_BHTD, key_BHSD, value_BHSD = unpack(qkv_BTPHD)
        out_BHTD = make_turned(query_BHTD)
        compute_short(query_BHTD, key_BHSD, value_BHSD, mask_BHTS, scaling, is_causal, out_BHTD)
        return out_BHTD.transpose(1, 2).flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        qkv_BTPHD, mask_BHTS = ctx.saved_tensors
        scaling, is_causal = ctx.settings
        found_BTPHD = torch.empty_like(qkv_BTPHD)
        inputs = unpack(qkv_BTPHD)
        rows, places, _, heads, width = qkv_BTPHD.shape
        gradient_BHTD = gradients[0].reshape(rows, places, heads, width).transpose(1, 2)
        differentiate_short(gradient_BHTD, inputs, mask_BHTS, scaling, is_causal, unpack(found_BTPHD))
        return found_BTPHD, None, None, None


def make_turned(tensor_BHTD: Tensor) -> Tensor:
    """Room for a tensor of this shape, laid out as (B, T, H, D)."""
    rows, heads, places, width = tensor_BHTD.shape
    return tensor_BHTD.new_empty(rows, places, heads, width).transpose(1, 2)


def unpack(qkv_BTPHD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Views of queries, keys and values, each (B, H, T, D)."""
    query_BTHD, key_BTHD, value_BTHD = qkv_BTPHD.unbind(2)
    return query_BTHD.transpose(1, 2), key_BTHD.transpose(1, 2), value_BTHD.transpose(1, 2)


def compute_short(
    query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask_BHTS: Tensor | None, scaling: float,
    is_causal: bool, out_BHTD: Tensor,
) -> None:  # fmt: skip
    """The output, written to its place."""
    inputs = query_BHTD, key_BKSD, value_BKSD
    masks = () if mask_BHTS is None else (mask_BHTS,)
    is_known = suits_short(*inputs, mask_BHTS, is_causal)
    library = find_compiled(*inputs, *masks) if is_known else None
    if library is None:
        check_shapes(*inputs, mask_BHTS, is_causal)
        out_BHTD.copy_(compute_plain(*inputs, mask_BHTS, scaling, is_causal))
        return
    mask_BHTS = make_readable(mask_BHTS)
    table = make_table(*inputs, mask_BHTS, scaling, is_causal)
    table.out = make_rows(out_BHTD)
    units = ctypes.c_int64(key_BKSD.shape[0] * key_BKSD.shape[1])
    library.afina_attend_short(ctypes.byref(table), units, torch.get_num_threads())


def differentiate_short(
    gradient_BHTD: Tensor, inputs: tuple[Tensor, Tensor, Tensor], mask_BHTS: Tensor | None, scaling: float,
    is_causal: bool, found: tuple[Tensor, Tensor, Tensor],
) -> None:  # fmt: skip
    """The gradients of queries, keys and values, written to the places `found`."""
    masks = () if mask_BHTS is None else (mask_BHTS,)
    is_known = suits_short(*inputs, mask_BHTS, is_causal) and gradient_BHTD.dtype == torch.bfloat16
    library = find_compiled(gradient_BHTD, *inputs, *masks) if is_known else None
    if library is None:
        for place, plain in zip(
            found, differentiate_plain(gradient_BHTD, *inputs, mask_BHTS, scaling, is_causal), strict=True
        ):
            place.copy_(plain)
        return
    if gradient_BHTD.shape != inputs[0].shape:
        raise ValueError(f"shapes are {tuple(gradient_BHTD.shape)} and {tuple(inputs[0].shape)}")
    gradient_BHTD, mask_BHTS = make_readable(gradient_BHTD), make_readable(mask_BHTS)
    table = make_table(*inputs, mask_BHTS, scaling, is_causal)
    table.gradient = make_rows(gradient_BHTD)
    table.query_gradient, table.key_gradient, table.value_gradient = map(make_rows, found)
    units = ctypes.c_int64(inputs[1].shape[0] * inputs[1].shape[1])
    library.afina_differentiate_short(ctypes.byref(table), units, torch.get_num_threads())


def make_readable(tensor: Any) -> Any:
    """The tensor or a copy, so that places of a row lie side by side; None stays none."""
    return tensor if tensor is None or tensor.stride(-1) == 1 else tensor.contiguous()


def make_rows(tensor_BHTD: Tensor) -> RowsTable:
    """Where a tensor lies."""
    return RowsTable(tensor_BHTD.data_ptr(), *tensor_BHTD.stride()[:3])


def make_table(
    query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask_BHTS: Tensor | None, scaling: float, is_causal: bool
) -> AttentionTable:
    """What both passes are told."""
    check_shapes(query_BHTD, key_BKSD, value_BKSD, mask_BHTS, is_causal)
    table = AttentionTable(*map(make_rows, (query_BHTD, key_BKSD, value_BKSD)))
    if mask_BHTS is not None:
        table.mask = make_rows(mask_BHTS)
    _, heads, queries, width = query_BHTD.shape
    table.heads, table.keys = key_BKSD.shape[1:3]
    table.groups = heads // max(1, table.heads)
    table.queries, table.width = queries, width
    table.scaling, table.is_causal = scaling, is_causal
    return table


def check_shapes(
    query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask_BHTS: Tensor | None, is_causal: bool
) -> None:
    """That the tensors belong together.

    Raises:
        ValueError: if they don't: the kernel would read past an end.
    """
    rows, heads, queries, width = query_BHTD.shape
    key_heads, keys = key_BKSD.shape[1:3]
    is_alike = key_BKSD.shape == value_BKSD.shape and (rows, width) == (key_BKSD.shape[0], key_BKSD.shape[3])
    if not is_alike or heads % max(1, key_heads) or (heads and not key_heads):
        raise ValueError(
            f"as wide heads and as many rows are wanted, and heads of queries for each of keys; queries are"
            f" {tuple(query_BHTD.shape)}, keys {tuple(key_BKSD.shape)}, values {tuple(value_BKSD.shape)}"
        )
    if mask_BHTS is not None and mask_BHTS.shape != (rows, heads, queries, keys):
        raise ValueError(f"the mask's shape is {tuple(mask_BHTS.shape)}, the scores' {(rows, heads, queries, keys)}")
    if is_causal and mask_BHTS is not None:
        raise ValueError("causal attention takes no mask")


def compute_plain(
    query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask_BHTS: Tensor | None, scaling: float, is_causal: bool
) -> Tensor:
    """The output by torch's operations, in fp32 at least."""
    weights_BHTS = compute_weights_plain(query_BHTD, key_BKSD, mask_BHTS, scaling, is_causal)
    return weights_BHTS @ widen(value_BKSD, query_BHTD.shape[1])


def compute_weights_plain(
    query_BHTD: Tensor, key_BKSD: Tensor, mask_BHTS: Tensor | None, scaling: float, is_causal: bool
) -> Tensor:
    """The probabilities, likewise."""
    heads = query_BHTD.shape[1]
    scores_BHTS = widen(query_BHTD, heads) @ widen(key_BKSD, heads).transpose(-1, -2)
    return compute_softmax_plain(scores_BHTS, mask_BHTS, scaling, is_causal)


def differentiate_plain(
    gradient_BHTD: Tensor, query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask_BHTS: Tensor | None,
    scaling: float, is_causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of queries, keys and values, likewise."""
    heads = query_BHTD.shape[1]
    query, key, value, gradient = (widen(each, heads) for each in (query_BHTD, key_BKSD, value_BKSD, gradient_BHTD))
    weights_BHTS = compute_weights_plain(query_BHTD, key_BKSD, mask_BHTS, scaling, is_causal)
    weights_gradient_BHTS = gradient @ value.transpose(-1, -2)
    dot = (weights_BHTS * weights_gradient_BHTS).sum(-1, keepdim=True)
    scores_gradient_BHTS = weights_BHTS * (weights_gradient_BHTS - dot) * scaling
    key_gradient = add_heads(scores_gradient_BHTS.transpose(-1, -2) @ query, key_BKSD.shape[1])
    value_gradient = add_heads(weights_BHTS.transpose(-1, -2) @ gradient, key_BKSD.shape[1])
    return scores_gradient_BHTS @ key, key_gradient, value_gradient


def add_heads(gradient_BHSD: Tensor, key_heads: int) -> Tensor:
    """The sum of what heads of queries add to the head of keys that they share, shape (B, K, S, D)."""
    rows, heads, keys, width = gradient_BHSD.shape
    return gradient_BHSD.reshape(rows, key_heads, heads // max(1, key_heads), keys, width).sum(2)


def widen(tensor_BKSD: Tensor, heads: int) -> Tensor:
    """In fp32 at least, each head as often as heads of queries share it."""
    wide = tensor_BKSD.to(torch.promote_types(tensor_BKSD.dtype, torch.float32))
    groups = heads // max(1, tensor_BKSD.shape[1])
    return wide if groups == 1 else wide.repeat_interleave(groups, 1)
