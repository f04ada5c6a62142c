"""A linear layer with LoRA beside it, in as few passes over the activations as its products need.

The usual composition scales, adds and (for an adapter in fp32) casts whole activations, each a pass over memory that on
a CPU costs as much as the thin products themselves. Here the adapter's products are added where the base's are written,
forwards and backwards, in the number format that the base computes in. Equal to peft's own layer up to rounding.

    U = D(X) A^T,  Y = X W^T + b + s U B^T
    dU = s dY B,  dX = dY W + D(dU A),  dA = dU^T D(X),  dB = s dY^T U

D is dropout (`dropout.py`), where it is at work: its mask is computed again in the backward pass and never kept.

Letters: N tokens, I inputs, O outputs, R rank.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from afina.kernels.attention import find_compute_dtype
from afina.kernels.dropout import add_dropped_, draw_key, drop, key_dropout
from afina.kernels.native import load_layer_kernels


class LoraProduct(torch.autograd.Function):
    """Y of the formula above; the base's weight W and bias b take no gradient."""

    @staticmethod
    def forward(
        ctx: Any, input_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None, a_RI: Tensor, b_OR: Tensor,
        scaling: float, share: float = 0.0,
    ) -> Tensor:  # fmt: skip
        ctx.share, ctx.key = share, draw_key() if share else 0
        inner_NR = drop_some(input_NI, ctx) @ a_RI.T
        ctx.save_for_backward(input_NI, weight_OI, a_RI, b_OR, inner_NR)
        ctx.scaling = scaling
        return functional.linear(input_NI, weight_OI, bias_O).addmm_(inner_NR, b_OR.T, alpha=scaling)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        input_NI, weight_OI, a_RI, b_OR, inner_NR = ctx.saved_tensors
        (grad_NO,) = gradients
        inner_grad_NR = (grad_NO @ b_OR) * ctx.scaling
        input_grad_NI = None
        if ctx.needs_input_grad[0]:  # not below the first adapted layer
            input_grad_NI = grad_NO @ weight_OI
            if ctx.share:
                add_dropped_(input_grad_NI, inner_grad_NR @ a_RI, ctx.share, ctx.key)
            else:
                input_grad_NI.addmm_(inner_grad_NR, a_RI)
        b_grad_OR = (grad_NO.T @ inner_NR) * ctx.scaling
        return input_grad_NI, None, None, inner_grad_NR.T @ drop_some(input_NI, ctx), b_grad_OR, None, None


def drop_some(numbers: Tensor, ctx: Any) -> Tensor:
    """What dropout leaves of them in this pass."""
    return drop(numbers, ctx.share, ctx.key) if ctx.share else numbers


def apply_lora(layer: Any, name: str, inputs: Tensor) -> Tensor:
    """The output of one of peft's linear layers with the adapter `name`, shape (..., O)."""
    dtype = find_compute_dtype(inputs)
    base, a, b = layer.base_layer, layer.lora_A[name].weight, layer.lora_B[name].weight
    bias = None if base.bias is None else base.bias.to(dtype)
    with torch.autocast(inputs.device.type, enabled=False):
        out_NO = LoraProduct.apply(  # type: ignore[no-untyped-call]
            inputs.to(dtype).flatten(0, -2), base.weight.to(dtype), bias, a.to(dtype), b.to(dtype),
            layer.scaling[name], find_share(layer, name),
        )  # fmt: skip
    return out_NO.unflatten(0, inputs.shape[:-1])


def find_share(layer: Any, name: str) -> float:
    """The share of the adapter's inputs that dropout sets to 0 now."""
    return float(getattr(layer.lora_dropout[name], "p", 0.0)) if layer.training else 0.0


def find_plain_adapter(layer: Any) -> str | None:
    """The adapter, where `apply_lora` computes the layer: a frozen linear base, one plain adapter, and no dropout, or
    one that a kernel computes: torch's own is faster than that one's plain form."""
    active = layer.active_adapters
    if len(active) != 1 or active[0] not in layer.lora_A or layer.disable_adapters or layer.merged:
        return None
    name: str = active[0]
    is_plain = name not in layer.lora_variant and layer.lora_B[name].bias is None
    base = layer.base_layer
    drops = find_share(layer, name) > 0 and not (base.weight.device.type == "cpu" and load_layer_kernels())
    frozen = type(base) is nn.Linear and not base.weight.requires_grad
    return name if is_plain and frozen and not drops else None


def use_lora_products(model: nn.Module) -> int:
    """Make peft's linear layers compute by `apply_lora` where it can, and the dropout of others by a kernel; gives how
    many of the first there are."""
    from peft.tuners.lora import layer as lora

    changed = 0
    for module in model.modules():
        if isinstance(module, lora.LoraLayer):
            for dropout in module.lora_dropout.values():
                key_dropout(dropout)
        if type(module) is lora.Linear:
            module.__class__ = make_layer_class()
            changed += 1
    return changed


@lru_cache(maxsize=1)
def make_layer_class() -> type:
    """peft's linear layer with another forward; everything else of it, saving and merging too, stays."""
    from peft.tuners.lora import layer as lora

    class Linear(lora.Linear):  # type: ignore[misc]
        def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            name = None if args or kwargs else find_plain_adapter(self)
            return super().forward(x, *args, **kwargs) if name is None else apply_lora(self, name, x)

    return Linear
