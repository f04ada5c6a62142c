"""Which layers of a model are trained through bf16 copies of their weights (`kernels/linear.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from afina.config.run import TrainingConfig
from afina.kernels.linear import CopiedLinear, hold_copies
from afina.kernels.native import load_library
from afina.models.rounded_weights import find_linear_layers


@contextmanager
def train_weight_copies(model: nn.Module, *, wanted: bool = True) -> Iterator[int]:
    """A context in which the model's linear layers have bf16 copies, which get the gradients in bf16 products.

    Afterwards they are ordinary layers again, with what was learned in them. Gives how many there are.
    """
    layers = find_layers(model) if wanted else []
    with hold_copies(layers):
        yield len(layers)


def suits_copies(training: TrainingConfig, *, device: str, precision: str, moves: str) -> bool:
    """Whether a run trains through copies: every weight moves, in bf16 on a CPU, and the kernel is there that steps
    weight and copy at once. torch's own step would leave a pass over both to do.
    """
    suits = training.compiled_kernels and device == "cpu" and precision == "bf16" and moves == "all"
    return suits and load_library() is not None


def find_layers(model: nn.Module) -> list[nn.Linear]:
    """The linear layers whose weights move and belong to nothing else."""
    return [layer for layer in find_linear_layers(model) if layer.weight.requires_grad]


def find_copies(model: nn.Module) -> dict[Tensor, Tensor]:
    """The copy of each weight that has one."""
    copies = {}
    for module in model.modules():
        if isinstance(module, CopiedLinear):
            copies[module.weight] = module.weight_copy.tensor
            if module.bias_copy is not None:
                copies[module.bias] = module.bias_copy.tensor
    return copies
