"""Which layers of a model are trained through bf16 copies of their weights (`kernels/linear.py`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from afina.config.run import TrainingConfig
from afina.kernels.linear import CopiedLinear, copy_weights
from afina.kernels.native import load_library


@contextmanager
def train_weight_copies(model: nn.Module, *, wanted: bool = True) -> Iterator[int]:
    """A context in which the model's linear layers have bf16 copies, which get the gradients in bf16 products.

    Afterwards they are ordinary layers again, with what was learned in them. Gives how many there are.
    """
    layers = find_layers(model) if wanted else []
    for layer in layers:
        copy_weights(layer)
    try:
        yield len(layers)
    finally:
        for layer in layers:
            if isinstance(layer, CopiedLinear):
                layer.settle()


def suits_copies(training: TrainingConfig, *, device: str, precision: str, moves: str) -> bool:
    """Whether a run trains through copies: every weight moves, in bf16 on a CPU, and the kernel is there that steps
    weight and copy at once. torch's own step would leave a pass over both to do.
    """
    suits = training.compiled_kernels and device == "cpu" and precision == "bf16" and moves == "all"
    return suits and load_library() is not None


def find_layers(model: Any) -> list[nn.Linear]:
    """The linear layers whose weights move and belong to nothing else.

    The head of a language model isn't among them: its loss reads the weight itself (`kernels/loss.py`).
    """
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    get = getattr(model, "get_output_embeddings", None)
    head = get() if get is not None else None
    return [
        module for module in model.modules()
        if type(module) is nn.Linear and module is not head and module.weight.requires_grad
        and all(uses[id(p)] == 1 and p.dtype == torch.float32 and p.is_contiguous() for p in module.parameters())
    ]  # fmt: skip


def find_copies(model: nn.Module) -> dict[Tensor, Tensor]:
    """The copy of each weight that has one."""
    copies = {}
    for module in model.modules():
        if isinstance(module, CopiedLinear):
            copies[module.weight] = module.weight_copy.tensor
            if module.bias_copy is not None:
                copies[module.bias] = module.bias_copy.tensor
    return copies
