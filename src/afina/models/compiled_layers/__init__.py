"""Layers of a model that compute by compiled kernels: those that were seen to compute what the kernels do.

Many classes of transformers are alike but for their names, and some differ by a rounding, so names prove nothing. A
class is tried once on random numbers, with random weights, in every format that matters; where its output isn't that of
the plain form of a kernel, its layers stay as they are. A layer that is changed keeps its name, its parameters and its
place; only its forward is another one.
"""

from __future__ import annotations

from torch import nn

from afina.kernels.native import load_layer_kernels
from afina.models.compiled_layers.activations import find_gelu_class
from afina.models.compiled_layers.dropouts import find_dropout_class
from afina.models.compiled_layers.gates import find_gated_class
from afina.models.compiled_layers.norms import find_norm_class
from afina.models.compiled_layers.projections import find_attention_class
from afina.models.compiled_layers.residuals import find_residual_class
from afina.models.compiled_layers.rotations import find_rotating_class

FINDERS = (
    find_norm_class, find_gated_class, find_gelu_class, find_residual_class, find_attention_class, find_rotating_class,
    find_dropout_class,
)  # fmt: skip


def use_compiled_layers(model: nn.Module) -> int:
    """Make the layers of a model compute by kernels, if there are some; gives how many layers that are."""
    changed = 0
    for module in model.modules() if load_layer_kernels() is not None else ():
        kind = find_compiled_class(module)
        if kind is not None:
            module.__class__ = kind
            changed += 1
    return changed


def find_compiled_class(module: nn.Module) -> type | None:
    """The class that computes what the module does by a kernel."""
    if hasattr(module, "is_compiled"):
        return None
    return next((kind for find in FINDERS if (kind := find(module)) is not None), None)
