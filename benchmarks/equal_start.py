"""Adapters that begin at the same numbers on both sides, so that their loss curves can be laid over each other."""

from __future__ import annotations

import math
from itertools import count
from typing import Any


def share_adapter_start() -> None:
    """Let peft draw the first matrix of each adapter by its place in the model rather than by the process's generator.

    peft fills these by `kaiming_uniform_` in the order of the model's layers, the same on both sides.
    """
    import torch

    places = count()

    def fill(weight: torch.Tensor, a: float = 0.0, *_: Any, **__: Any) -> torch.Tensor:
        generator = torch.Generator().manual_seed(next(places))
        bound = math.sqrt(6 / ((1 + a**2) * weight.shape[1]))
        drawn = torch.rand(weight.shape, generator=generator) * 2 * bound - bound
        with torch.no_grad():
            return weight.copy_(drawn)

    torch.nn.init.kaiming_uniform_ = fill
