"""What is known of the techniques before any of their code is imported: one table, which all that asks reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

AUTO = "auto"
"""In place of a name: afina chooses."""
ChosenTechnique = Literal["full", "feature-extraction", "lora", "qlora"]
"""A technique by name, once it is settled."""


@dataclass(frozen=True)
class Traits:
    """What tells a technique from others."""

    moves: Literal["all", "head", "adapter"]
    """Which weights are trained: all of them, the new head, or adapters beside frozen ones and the new head."""
    learns_by: Literal["gradient", "solver"] = "gradient"
    """`gradient`: by the training loop. `solver`: the head is solved on frozen features."""
    stored_in_4_bits: bool = False
    """Whether the frozen base is."""


TRAITS: Mapping[str, Traits] = {
    "full": Traits("all"),
    "feature-extraction": Traits("head", learns_by="solver"),
    "lora": Traits("adapter"),
    "qlora": Traits("adapter", stored_in_4_bits=True),
}


def list_techniques(suits: Callable[[Traits], bool]) -> tuple[str, ...]:
    """Names of the techniques whose traits suit, in the table's order."""
    return tuple(name for name, traits in TRAITS.items() if suits(traits))


ADAPTERS = list_techniques(lambda traits: traits.moves == "adapter")
SOLVED = list_techniques(lambda traits: traits.learns_by == "solver")
BY_STEPS = list_techniques(lambda traits: traits.learns_by == "gradient")
IN_4_BITS = list_techniques(lambda traits: traits.stored_in_4_bits)
# An adapter's head reads the architecture's own pooling.
POOLING_READERS = list_techniques(lambda traits: traits.moves != "adapter")
# From the most to the least likely to be worth its time where all of them fit into memory.
MOVING = list_techniques(lambda traits: traits.moves != "head")
FIRST_LOOK = "feature-extraction"
"""The cheap technique that `auto` tries first."""
