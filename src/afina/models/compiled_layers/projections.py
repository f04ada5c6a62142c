"""Attention of BERT and its kin, whose queries, keys and values are three linear layers of one input: one product."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from afina.kernels.attention import attend_packed, find_compute_dtype
from afina.kernels.linear import is_plain, round_parameters
from afina.kernels.rounded import find_rounded
from afina.models.compiled_layers.trial import (
    ROWS,
    WIDTH,
    drops,
    has_hooks,
    is_same,
    keep_name,
    make_unfilled,
    try_quietly,
)
from afina.models.load import ATTENTION

PROJECTIONS = ("query", "key", "value")
HEADS = 3
# By class: whether it is that.
ATTENTIONS: dict[type, bool] = {}


def find_attention_class(module: Any) -> type | None:
    """The class that computes what the module does by one product and a kernel."""
    kind: Any = type(module)
    if sorted(module._modules) != sorted((*PROJECTIONS, "dropout")) or module._parameters or not has_sizes(module):
        return None
    if kind not in ATTENTIONS:
        ATTENTIONS[kind] = is_attention(module)
    return make_attention_class(kind) if ATTENTIONS[kind] else None


def has_sizes(module: Any) -> bool:
    """Whether it says its sizes and takes its attention from where transformers' layers take it."""
    numbers = (getattr(module, name, None) for name in ("num_attention_heads", "attention_head_size", "scaling"))
    return all(isinstance(number, int | float) for number in numbers) and hasattr(module, "config")


def is_attention(module: Any) -> bool:
    """Whether the module computes softmax(scaling Q K^T + mask) V of its three projections."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, device="cpu")

    def project() -> nn.Linear:
        layer = nn.Linear(WIDTH, WIDTH, device="cpu")
        layer.weight.copy_(draw(WIDTH, WIDTH) / WIDTH**0.5)
        layer.bias.copy_(draw(WIDTH))
        return layer

    def compare() -> bool:
        layers = [project() for _ in PROJECTIONS]
        tried = copy.copy(module)
        tried.__dict__["_modules"] = {**dict(zip(PROJECTIONS, layers, strict=True)), "dropout": nn.Dropout(0.0)}
        tried.num_attention_heads, tried.attention_head_size, tried.scaling = HEADS, WIDTH // HEADS, 0.3
        tried.all_head_size = WIDTH
        input = draw(2, ROWS, WIDTH)
        mask = torch.ones(2, 1, ROWS, ROWS, dtype=torch.bool, device="cpu")
        mask[1, ..., ROWS // 2 :] = False
        query, key, value = (layer(input).view(2, ROWS, HEADS, -1).transpose(1, 2) for layer in layers)
        wanted = functional.scaled_dot_product_attention(query, key, value, mask, scale=0.3)
        found = type(module).forward(tried, input, mask)
        return is_same(found[0], wanted.transpose(1, 2).reshape(input.shape)) and found[1] is None

    return try_quietly(compare)


@cache
def make_attention_class(kind: Any) -> type:
    """The class with one product for all three, and the kernel behind it."""

    class PackedAttention(kind):  # type: ignore[misc]
        is_compiled = True

        def forward(
            self, hidden_states: Tensor, attention_mask: Tensor | None = None, *args: Any, **kwargs: Any
        ) -> tuple[Tensor, Tensor | None]:
            if not suits_packing(self, hidden_states, attention_mask, (*args, *kwargs.values())):
                return super().forward(hidden_states, attention_mask, *args, **kwargs)
            weights, biases = zip(*(round_parameters(getattr(self, name)) for name in PROJECTIONS), strict=True)
            packed = functional.linear(find_rounded(hidden_states), torch.cat(weights), torch.cat(biases))
            shape = (*packed.shape[:2], 3, self.num_attention_heads, self.attention_head_size)
            return attend_packed(packed.view(shape), attention_mask, self.scaling), None

        def __reduce_ex__(self, protocol: Any) -> Any:
            return make_unfilled, (make_attention_class, kind), self.__dict__

    return keep_name(PackedAttention, kind)


def suits_packing(module: Any, hidden: Tensor, mask: Tensor | None, others: tuple[Any, ...]) -> bool:
    """Whether this call is nothing but attention in bf16 over one batch of rows by three plain layers."""
    layers = [getattr(module, name) for name in PROJECTIONS]
    return (
        hidden.device.type == "cpu"
        and hidden.ndim == 3
        and hidden.shape[1] > 1
        and find_compute_dtype(hidden) == torch.bfloat16
        and (mask is None or (mask.dtype == torch.bool and mask.ndim == 4))
        and not any(other is not None and other is not False for other in others)
        and not getattr(module, "is_causal", False)
        and module.config._attn_implementation == ATTENTION
        and not drops(module.dropout)
        and not has_hooks(module.dropout, *layers)
        and all(is_plain(layer) and layer.out_features == layers[0].out_features for layer in layers)
    )
