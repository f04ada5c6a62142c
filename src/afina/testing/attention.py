"""Inputs of attention as models give them, for tests of its kernels.

Letters: B rows, H heads of queries, K heads of keys, T queries, S keys, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

MASKS = ("none", "causal", "padding", "blocks", "some", "none but some rows")
SCALING = 0.3


def draw_heads(shape: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    """Queries, keys, values and the output's gradient in bf16, heads side by side; the shape is B, H, K, T, S, D."""
    rows, heads, key_heads, queries, keys, width = shape
    random = torch.Generator().manual_seed(seed)
    sizes = ((queries, heads), (keys, key_heads), (keys, key_heads), (queries, heads))
    drawn = [torch.randn(rows, *size, width, generator=random) for size in sizes]
    return [each.bfloat16().transpose(1, 2) for each in drawn]


def make_mask(kind: str, shape: tuple[int, ...]) -> Tensor | None:
    """A mask of one of the kinds, expanded to (B, H, T, S); None where the kind needs none."""
    rows, heads, _, queries, keys, _ = shape
    if kind in ("none", "causal"):
        return None
    if kind == "padding":
        return (torch.arange(keys) <= keys // 2).expand(rows, heads, queries, keys)
    if kind == "blocks":
        size = max(1, keys // 5)
        block = (torch.arange(queries) // size)[:, None] == (torch.arange(keys) // size)[None]
        return block.expand(rows, heads, queries, keys)
    mask = torch.rand((rows, 1, queries, keys), generator=torch.Generator().manual_seed(2)) < 0.5
    mask[..., :1] = True
    if kind == "none but some rows":
        mask[:, :, ::2] = False
    return mask.expand(rows, heads, queries, keys)


def run_attention(
    apply: Callable[..., Any], inputs: Sequence[Tensor], mask: Tensor | None, is_causal: bool, scaling: float = SCALING
) -> list[Tensor]:
    """The output and the gradients of queries, keys and values.

    Args:
        apply: takes queries, keys, values, mask, scaling and whether it is causal.
        inputs: as `draw_heads` gives them.
    """
    *heads, direction = inputs
    starts = [each.detach().requires_grad_() for each in heads]
    out = apply(*starts, mask, scaling, is_causal)
    return [out.detach(), *torch.autograd.grad(out, starts, direction)]
