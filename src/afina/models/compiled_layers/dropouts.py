"""Layers of dropout."""

from __future__ import annotations

from torch import nn

from afina.kernels.dropout import KeyedDropout, suits_key


def find_dropout_class(module: nn.Module) -> type | None:
    """The class that computes what the module does by a kernel; its places are others, drawn as evenly."""
    return KeyedDropout if suits_key(module) else None
