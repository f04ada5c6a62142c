"""The bf16 form of an fp32 tensor that was made with it, so that the products that read it needn't round it again.

Under autocast each linear layer rounds its input for itself: queries, keys and values the same one three times.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def remember_rounded(tensor: Tensor, rounded: Tensor) -> None:
    """Let `find_rounded` give this bf16 form of the tensor, as long as nothing is written into that."""
    holder: Any = tensor
    holder.rounded = rounded, count_changes(tensor)


def find_rounded(tensor: Tensor) -> Tensor:
    """The tensor in bf16, with its gradient."""
    rounded, changes = getattr(tensor, "rounded", (None, -1))
    if rounded is not None and changes == count_changes(tensor):
        return rounded
    return tensor.to(torch.bfloat16)


def count_changes(tensor: Tensor) -> int:
    """How often something was written into the tensor; what is made in inference mode doesn't know."""
    return 0 if tensor.is_inference() else tensor._version
