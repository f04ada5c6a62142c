"""Layers of dropout."""

from __future__ import annotations

from torch import nn

from afina.kernels.dropout import KeyedDropout


def find_dropout_class(module: nn.Module) -> type | None:
    """The class that computes what the module does by a kernel; its places are others, drawn as evenly."""
    return KeyedDropout if type(module) is nn.Dropout and not module.inplace else None
