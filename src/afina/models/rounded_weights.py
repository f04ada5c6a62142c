"""Weights that are rounded to bf16 once for many passes without gradients, and not by autocast in each of them."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from afina.kernels.linear import hold_copies


def round_weights(model: nn.Module, *, device: str, precision: str, passes: int) -> AbstractContextManager[Any]:
    """A context in which the model's linear layers compute with bf16 copies, where autocast would make some each time.

    The numbers are the same. On a CPU alone: elsewhere a cast costs nothing beside a pass.
    """
    is_worth_it = device == "cpu" and precision == "bf16" and passes > 1
    return hold_copies(find_linear_layers(model)) if is_worth_it else nullcontext()


def find_linear_layers(model: Any) -> list[nn.Linear]:
    """The linear layers in fp32 whose weights belong to nothing else.

    The head of a language model isn't among them: its loss reads the weight itself (`kernels/loss.py`).
    """
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    get = getattr(model, "get_output_embeddings", None)
    head = get() if get is not None else None
    return [
        module for module in model.modules()
        if type(module) is nn.Linear and module is not head
        and all(uses[id(p)] == 1 and p.dtype == torch.float32 and p.is_contiguous() for p in module.parameters())
    ]  # fmt: skip
