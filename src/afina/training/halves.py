"""A large batch in two halves that are computed side by side (`kernels/lanes.py`).

The halves need about equally long, and what they are depends on the batch alone. Their gradients are formed apart and
then added, the first one's first: the same bits whichever ends first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from afina.data.batches import Indices
from afina.kernels.dropout import KeyedDropout, draw_key, own_keys
from afina.kernels.lanes import LANES, Lanes, count_lanes, cut_evenly
from afina.models.four_bits import holds_four_bits
from afina.training.objective import Objective
from afina.training.optim import AdamW

# Products of one layer with a batch, below which the halves wait more for Python's lock than threads for each other:
# measured on two cores with MiniLM (rows of 14, 30 and 512 tokens) and SmolLM2, docs/LOG.md.
LEAST_PRODUCTS = 2e9
USUAL_LAYERS = 12


@dataclass(frozen=True)
class Halves:
    """How batches are halved.

    Args:
        weights: numbers in the matrices of one layer, on average.
    """

    weights: float

    def cut(self, rows: Indices, lengths: Indices) -> list[Indices]:
        """The rows of a pass in two parts where that pays; else all of them.

        Args:
            lengths: tokens of each training row.
        """
        tokens = len(rows) * int(lengths[rows].max())
        if self.weights * tokens < LEAST_PRODUCTS:
            return [rows]
        return [rows[places] for places in cut_evenly(lengths[rows], LANES)]


def plan_halves(model: nn.Module, objective: Objective, device: str) -> Halves | None:
    """How this training halves its batches; None where it doesn't: no threads, losses of pairs of rows, chance inside
    the model that is drawn from one generator, or weights in 4 bits. These are unpacked for each product and freed
    again, which leaves holes between the activations: twice as many in two threads' heaps (docs/LOG.md)."""
    is_apart = objective.is_sum and not shares_chance(model) and not holds_four_bits(model)
    if not is_apart or count_lanes(model, device, LANES) == 1:
        return None
    return Halves(count_weights(model) / count_layers(model))


def shares_chance(model: nn.Module) -> bool:
    """Whether a forward pass in training draws random numbers that threads can't draw by themselves: torch's dropout,
    noise of a router, or any where activations are computed again."""
    layers = [
        module for module in model.modules() if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
    ]
    keyed = [layer for layer in layers if isinstance(layer, KeyedDropout) and layer.draws_keys]
    if len(keyed) < len(layers):
        return True
    if keyed and any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        return True
    return any(has_share(module) for module in model.modules())


def has_share(module: nn.Module) -> bool:
    """Whether a number of its own says that something is dropped or disturbed."""
    return any(
        isinstance(value, float) and value > 0 and ("drop" in name or "jitter" in name or "noise" in name)
        for name, value in vars(module).items()
    )


def count_weights(model: Any) -> int:
    """Numbers in the model's matrices, without its table of token vectors: rows of that are looked up."""
    table = {id(parameter) for parameter in model.get_input_embeddings().parameters()}
    return sum(p.numel() for p in model.parameters() if p.ndim > 1 and id(p) not in table)


def count_layers(model: Any) -> int:
    """Layers of the model, as its config has them."""
    return int(getattr(model.config.get_text_config(), "num_hidden_layers", None) or USUAL_LAYERS)


def add_halves(
    model: nn.Module, objective: Objective, accelerator: Any, optimizer: AdamW,
    parts: Sequence[Indices], weight: float, lanes: Lanes,
) -> Tensor:  # fmt: skip
    """Add the gradient of the parts' summed losses, divided by `weight`, to what the leaves hold; gives that loss."""
    leaves = optimizer.list_leaves()

    def differentiate(part: tuple[Indices, int]) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        rows, key = part
        with own_keys(key):
            loss = objective.sum_losses(model, rows, accelerator) / weight
            return loss.detach(), torch.autograd.grad(loss, leaves, allow_unused=True)

    total = torch.zeros(())
    keyed = [(rows, draw_key()) for rows in parts]
    for place, (loss, gradients) in enumerate(lanes.map(differentiate, keyed)):
        if place:
            optimizer.end_pass()
        for leaf, gradient in zip(leaves, gradients, strict=True):
            if gradient is not None:
                leaf.grad = gradient if leaf.grad is None else leaf.grad.add_(gradient)
        total += loss
    return total
