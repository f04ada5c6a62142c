"""An activation of one tensor times another (SwiGLU, GeGLU), in one pass forwards and one backwards.

    s = a(g),  y = s u,  du = s dy,  dg = a'(g) u dy
    silu:       a(g) = g sigmoid(g)
    gelu_tanh:  a(g) = g / 2 (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3)))

Shazeer 2020, arXiv 2002.05202. Computed in fp32 and rounded where torch's operations round: s and u dy. Of these s is
what they keep beside g and u; here it is computed again.
"""

from __future__ import annotations

import ctypes
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from afina.kernels.native import find_compiled, is_readable

Activation = Literal["silu", "gelu_tanh"]
# As in gate.c.
ACTIVATIONS: tuple[Activation, ...] = ("silu", "gelu_tanh")


class GateTable(ctypes.Structure):
    """`struct gate` of gate.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("gate", "up", "output", "gradient", "gate_gradient", "up_gradient")),
        ("is_bf16", ctypes.c_int32), ("kind", ctypes.c_int32),
    )  # fmt: skip


def multiply_gate(gate: Tensor, up: Tensor, activation: Activation) -> Tensor:
    """The activated gate times `up`, which has its shape."""
    return MultiplyGate.apply(gate, up, activation)  # type: ignore[no-untyped-call]


class MultiplyGate(torch.autograd.Function):
    """Keeps both inputs."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, activation: Activation) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        ctx.activation = activation
        library = find_compiled(gate, up) if is_readable(gate, up) and is_alike(gate, up) else None
        if library is None:
            return activate_plain(gate, activation) * up
        output = torch.empty_like(gate)
        table = make_table(gate, up, activation)
        table.output = output.data_ptr()
        library.afina_multiply_gate(ctypes.byref(table), ctypes.c_int64(gate.numel()), torch.get_num_threads())
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        gate, up = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        suits = is_readable(gate, up) and is_alike(gate, up, gradient)
        library = find_compiled(gate, up, gradient) if suits else None
        if library is None:
            return *differentiate_plain(gate, up, gradient, ctx.activation), None
        gate_gradient, up_gradient = torch.empty_like(gate), torch.empty_like(up)
        table = make_table(gate, up, ctx.activation)
        table.gradient = gradient.data_ptr()
        table.gate_gradient, table.up_gradient = gate_gradient.data_ptr(), up_gradient.data_ptr()
        library.afina_differentiate_gate(ctypes.byref(table), ctypes.c_int64(gate.numel()), torch.get_num_threads())
        return gate_gradient, up_gradient, None


def make_table(gate: Tensor, up: Tensor, activation: Activation) -> GateTable:
    """What both passes are told."""
    table = GateTable(gate.data_ptr(), up.data_ptr())
    table.is_bf16, table.kind = gate.dtype == torch.bfloat16, ACTIVATIONS.index(activation)
    return table


def is_alike(*tensors: Tensor) -> bool:
    """Whether all are of one shape and format: anything else would be read past its end."""
    return len({(each.shape, each.dtype) for each in tensors}) == 1


def activate_plain(gate: Tensor, activation: Activation) -> Tensor:
    """The activated gate by torch's operation."""
    return functional.silu(gate) if activation == "silu" else functional.gelu(gate, approximate="tanh")


def differentiate_plain(gate: Tensor, up: Tensor, gradient: Tensor, activation: Activation) -> tuple[Tensor, Tensor]:
    """The gradients of gate and `up` by torch's operations."""
    inner, up_gradient = gradient * up, gradient * activate_plain(gate, activation)
    if activation == "silu":
        return torch.ops.aten.silu_backward(inner, gate), up_gradient
    return torch.ops.aten.gelu_backward(inner, gate, approximate="tanh"), up_gradient
