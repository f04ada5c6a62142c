"""LoRA on a model without numbers: layers that keep for the backward pass what peft's and ours keep.

They stand in for peft's own, whose import takes a second and brings nothing to a count. Tests compare what they keep
with what peft's keep.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from afina.kernels.attention import find_compute_dtype
from afina.kernels.dropout import Drop
from afina.kernels.lora import LoraProduct
from afina.kernels.native import load_layer_kernels


class FourBitProduct(torch.autograd.Function):
    """A product with a weight in 4 bits: of its inputs nothing is kept, the weight is unpacked again. An outline has no
    backward pass, and so this has none."""

    @staticmethod
    def forward(ctx: Any, input_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        return functional.linear(input_NI, weight_OI.to(input_NI.dtype), bias_O)


class AdaptedLayer(nn.Module):
    """A frozen layer with LoRA beside it.

    Args:
        base: the layer.
        inputs: its inputs.
        outputs: its outputs.
        rank: of the two matrices.
        dropout: share of the adapter's inputs set to 0.
        in_4_bits: whether the base is stored so.
        keyed: whether a kernel computes dropout.
    """

    def __init__(
        self, base: nn.Module, inputs: int, outputs: int, rank: int, dropout: float, in_4_bits: bool, keyed: bool
    ) -> None:
        super().__init__()
        self.base = base
        self.lora_a = nn.Parameter(torch.empty(rank, inputs))
        self.lora_b = nn.Parameter(torch.empty(outputs, rank))
        self.dropout = dropout
        self.in_4_bits = in_4_bits
        self.keyed = keyed

    @property
    def is_at_once(self) -> bool:
        """Whether our own layer computes it, whose dropout keeps nothing."""
        return not self.in_4_bits and type(self.base) is nn.Linear and (self.keyed or not self.dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.is_at_once:
            return self._multiply_at_once(inputs)
        output = self._multiply_base(inputs)
        dropped = self._drop(inputs)
        # peft asks for the autocast of GPUs alone: beside weights in 4 bits a CPU's inputs are cast there and back.
        if not torch.is_autocast_enabled("cuda" if self.in_4_bits else inputs.device.type):
            dropped = dropped.to(self.lora_a.dtype)
        return output + functional.linear(functional.linear(dropped, self.lora_a), self.lora_b) * 1.0

    def _drop(self, inputs: Tensor) -> Tensor:
        if self.dropout and self.keyed:
            return Drop.apply(inputs, self.dropout)  # type: ignore[no-untyped-call]
        return functional.dropout(inputs, self.dropout, training=self.dropout > 0)

    def _multiply_at_once(self, inputs: Tensor) -> Tensor:
        dtype, base = find_compute_dtype(inputs), self.base
        assert isinstance(base, nn.Linear)
        bias = None if base.bias is None else base.bias.to(dtype)
        with torch.autocast(inputs.device.type, enabled=False):
            out_NO = LoraProduct.apply(  # type: ignore[no-untyped-call]
                inputs.to(dtype).flatten(0, -2), base.weight.to(dtype), bias, self.lora_a.to(dtype),
                self.lora_b.to(dtype), 1.0,
            )  # fmt: skip
        return out_NO.unflatten(0, inputs.shape[:-1])

    def _multiply_base(self, inputs: Tensor) -> Tensor:
        if not self.in_4_bits:
            return self.base(inputs)
        weight, bias = self.base.weight, self.base.bias
        assert isinstance(weight, Tensor)
        if not isinstance(self.base, nn.Linear):
            weight = weight.T  # GPT-2's own layer has it the other way round
        dtype = find_compute_dtype(inputs)
        cast_bias = bias.to(dtype) if isinstance(bias, Tensor) else None
        with torch.autocast(inputs.device.type, enabled=False):
            product = FourBitProduct.apply(inputs.to(dtype), weight, cast_bias)  # type: ignore[no-untyped-call]
        return product.to(inputs.dtype)


def adapt_layers(
    model: nn.Module, names: list[str], rank: int, dropout: float, in_4_bits: bool, trained_whole: tuple[str, ...],
    *, compiled: bool = False,
) -> None:  # fmt: skip
    """Put an adapter beside every layer of one of these names, but for modules that are trained whole.

    Args:
        compiled: whether compiled kernels compute layers, where this processor has some.
    """
    keyed = compiled and load_layer_kernels() is not None
    for path, module in list(model.named_modules()):
        parent, _, name = path.rpartition(".")
        weight = getattr(module, "weight", None)
        if f"{path}.".startswith(tuple(f"{each}." for each in trained_whole)):
            continue
        if (
            not any(path == each or path.endswith(f".{each}") for each in names)
            or not isinstance(weight, nn.Parameter)
            or weight.ndim != 2
        ):
            continue
        outputs, inputs = weight.shape if isinstance(module, nn.Linear) else weight.shape[::-1]
        adapted = AdaptedLayer(module, inputs, outputs, rank, dropout, in_4_bits, keyed)
        setattr(model.get_submodule(parent), name, adapted)


def count_dropped(model: nn.Module) -> int:
    """Numbers of a token that torch's dropout draws before adapters; a kernel of our own costs little."""
    layers = [module for module in model.modules() if isinstance(module, AdaptedLayer)]
    return sum(layer.lora_a.shape[1] for layer in layers if layer.dropout > 0 and not layer.keyed)
