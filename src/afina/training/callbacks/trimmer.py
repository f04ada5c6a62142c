"""Gives memory back that lies free in pieces between blocks in use."""

from __future__ import annotations

from afina.kernels.allocator import trim_freed_memory
from afina.training.events import Callback

# Batches of many lengths leave pieces that fit no later one: without this, LoRA on a language model of 135M parameters
# grew from 2.6 to 3.9 GiB in a hundred steps. A step after it has its pages cleared anew, a fifth of a step at most.
STEPS_BETWEEN = 16


class MemoryTrimmer(Callback):
    """Trims after every `STEPS_BETWEEN` steps."""

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        if step % STEPS_BETWEEN == 0:
            trim_freed_memory()
