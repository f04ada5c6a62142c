"""Softmax of masked scores where they lie, and its gradient: one pass over memory each, for bf16 on CPUs.

    P = softmax(scaling S + mask),  dS = scaling P (dP - sum over keys of P dP)

torch's operations scale the queries, write the masked scores beside the scores and the probabilities beside these. Here
a row is read once, computed in fp32 and rounded once.

Letters: B rows of the batch, H heads, T queries, S keys.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from afina.kernels.native import find_compiled, load_layer_kernels

# Keys of a row that the kernel has room for, as in softmax.c.
LONGEST = 16384


class SoftmaxTable(ctypes.Structure):
    """`struct softmax` of softmax.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("scores", "mask", "gradient", "score_gradient")),
        *((name, ctypes.c_int64) for name in ("heads", "queries", "keys", "mask_batch", "mask_head", "mask_query")),
        ("scaling", ctypes.c_float), ("is_causal", ctypes.c_int32),
    )  # fmt: skip


def suits_softmax(dtype: torch.dtype, keys: int, mask: Tensor | None) -> bool:
    """Whether the kernel is there and computes it: bf16, and no mask but one of yes and no."""
    suits = dtype == torch.bfloat16 and keys <= LONGEST and (mask is None or mask.dtype == torch.bool)
    return suits and load_layer_kernels() is not None


def take_softmax_(
    scores: Tensor, mask_BHTS: Tensor | None, scaling: float, shape_BHTS: tuple[int, ...], *, is_causal: bool = False
) -> Tensor:
    """The scores, become probabilities in their place.

    Args:
        scores: contiguous, of any shape that can be seen as the next one.
        mask_BHTS: True where a query may look; may be expanded. A query that may look nowhere looks everywhere alike.
        is_causal: whether query t looks at the keys up to t alone; takes no mask beside it.
    """
    if torch.is_grad_enabled() and scores.requires_grad:
        return Softmax.apply(scores, mask_BHTS, scaling, shape_BHTS, is_causal)  # type: ignore[no-untyped-call]
    compute_softmax_(scores.view(shape_BHTS), mask_BHTS, scaling, is_causal)
    return scores


class Softmax(torch.autograd.Function):
    """Keeps the probabilities."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, mask_BHTS: Tensor | None, scaling: float, shape_BHTS: tuple[int, ...], is_causal: bool
    ) -> Tensor:
        compute_softmax_(scores.view(shape_BHTS), mask_BHTS, scaling, is_causal)
        ctx.mark_dirty(scores)
        ctx.save_for_backward(scores)
        ctx.settings = scaling, shape_BHTS, is_causal
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (weights,) = ctx.saved_tensors
        scaling, shape_BHTS, is_causal = ctx.settings
        pair = weights.view(shape_BHTS), gradients[0].contiguous().view(shape_BHTS)
        return differentiate_softmax(*pair, scaling, is_causal).view(weights.shape), None, None, None, None


def compute_softmax_(scores_BHTS: Tensor, mask_BHTS: Tensor | None, scaling: float, is_causal: bool) -> None:
    """The same, without a gradient."""
    masks = () if mask_BHTS is None else (mask_BHTS,)
    is_known = suits_softmax(scores_BHTS.dtype, scores_BHTS.shape[-1], mask_BHTS) and scores_BHTS.is_contiguous()
    library = find_compiled(scores_BHTS, *masks) if is_known else None
    if library is None:
        scores_BHTS.copy_(compute_softmax_plain(scores_BHTS, mask_BHTS, scaling, is_causal))
        return
    table = make_table(scores_BHTS, scaling, is_causal)
    if mask_BHTS is not None:
        if mask_BHTS.shape != scores_BHTS.shape:
            raise ValueError(f"the mask's shape is {tuple(mask_BHTS.shape)}, the scores' {tuple(scores_BHTS.shape)}")
        mask_BHTS = mask_BHTS if mask_BHTS.stride(-1) == 1 else mask_BHTS.contiguous()
        table.mask = mask_BHTS.data_ptr()
        table.mask_batch, table.mask_head, table.mask_query = mask_BHTS.stride()[:3]
    rows = ctypes.c_int64(scores_BHTS.shape[:3].numel())
    library.afina_take_softmax(ctypes.byref(table), rows, torch.get_num_threads())


def differentiate_softmax(weights_BHTS: Tensor, gradient_BHTS: Tensor, scaling: float, is_causal: bool) -> Tensor:
    """The gradient of the scores."""
    pair = weights_BHTS, gradient_BHTS.contiguous()
    is_known = suits_softmax(pair[1].dtype, weights_BHTS.shape[-1], None) and weights_BHTS.dtype == torch.bfloat16
    library = find_compiled(*pair) if is_known and weights_BHTS.is_contiguous() else None
    if library is None:
        plain = torch._softmax_backward_data(gradient_BHTS, weights_BHTS, -1, weights_BHTS.dtype)
        return plain if scaling == 1.0 else plain * scaling
    if gradient_BHTS.shape != weights_BHTS.shape:
        raise ValueError(f"shapes are {tuple(gradient_BHTS.shape)} and {tuple(weights_BHTS.shape)}")
    found_BHTS = torch.empty_like(weights_BHTS)
    table = make_table(weights_BHTS, scaling, is_causal)
    table.gradient, table.score_gradient = pair[1].data_ptr(), found_BHTS.data_ptr()
    rows = ctypes.c_int64(weights_BHTS.shape[:3].numel())
    library.afina_differentiate_softmax(ctypes.byref(table), rows, torch.get_num_threads())
    return found_BHTS


def make_table(scores_BHTS: Tensor, scaling: float, is_causal: bool) -> SoftmaxTable:
    """What both passes are told.

    Raises:
        ValueError: for scores that a causal row would be read past the end of.
    """
    _, heads, queries, keys = scores_BHTS.shape
    if is_causal and queries > keys:
        raise ValueError(f"query {queries} of causal attention has no key, there are {keys}")
    table = SoftmaxTable(scores_BHTS.data_ptr(), None, None, None, heads, queries, keys)
    table.scaling, table.is_causal = scaling, is_causal
    return table


def compute_softmax_plain(scores_BHTS: Tensor, mask_BHTS: Tensor | None, scaling: float, is_causal: bool) -> Tensor:
    """The probabilities by one operation after another."""
    scores_BHTS = scores_BHTS if scaling == 1.0 else scores_BHTS * scaling
    if is_causal:
        mask_BHTS = torch.ones(scores_BHTS.shape[-2:], dtype=torch.bool, device=scores_BHTS.device).tril()
    if mask_BHTS is not None:
        # The least finite number, since a row of nothing but infinities (padding on the left) would give no number.
        is_bool = mask_BHTS.dtype == torch.bool
        least = torch.finfo(scores_BHTS.dtype).min
        scores_BHTS = scores_BHTS.masked_fill(~mask_BHTS, least) if is_bool else scores_BHTS + mask_BHTS
    return torch.softmax(scores_BHTS, dim=-1)
