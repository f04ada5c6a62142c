"""Whether a run fits a machine, and what would make it fit without another result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from afina.advice.costs import Costs, CostSubject, predict_costs
from afina.config.run import RunConfig
from afina.errors import ConfigError
from afina.techniques.base import Technique

# Share of the free memory that a run may be predicted to take: the rest is for other programs that wake up.
USABLE = 0.95


@dataclass(frozen=True)
class Remedy:
    """Settings with which a run would fit; its result is the same up to rounding."""

    settings: dict[str, Any]
    """By key, such as `training.per_device_train_batch_size`."""
    costs: Costs

    def as_flags(self) -> str:
        """The settings as they are written on the command line."""
        return " ".join(f"--set {key}={str(value).lower()}" for key, value in self.settings.items())


def fits(costs: Costs, available_bytes: int) -> bool:
    """Whether the run fits so much free memory."""
    return costs.memory.needed <= USABLE * available_bytes


def find_remedy(subject: CostSubject, technique: Technique, config: RunConfig, available_bytes: int) -> Remedy | None:
    """The least change that makes the run fit: smaller passes of an equal step, then activations computed again.

    The technique stays, and so does what it learns. None if nothing of that is enough.
    """
    if technique.traits.moves == "head":
        return None
    size = config.training.per_device_train_batch_size
    smaller = [rows for rows in range(size - 1, 0, -1) if size % rows == 0]
    for checkpointing in (False, True):
        for rows in [size, *smaller] if checkpointing else smaller:
            try:
                remedy = try_settings(subject, technique, config, rows, checkpointing)
            except ConfigError:  # the model can't compute activations again
                return None
            if fits(remedy.costs, available_bytes):
                return remedy
    return None


def try_settings(
    subject: CostSubject, technique: Technique, config: RunConfig, rows: int, checkpointing: bool
) -> Remedy:
    """The run with passes of so many rows and the same step."""
    training = config.training
    steps = training.gradient_accumulation_steps * training.per_device_train_batch_size // rows
    settings: dict[str, Any] = {}
    if rows != training.per_device_train_batch_size:
        settings |= {"per_device_train_batch_size": rows, "gradient_accumulation_steps": steps}
    if checkpointing and not training.gradient_checkpointing:
        settings["gradient_checkpointing"] = True
    changed = config.model_copy(update={"training": training.model_copy(update=settings)})
    costs = predict_costs(subject, technique, changed)
    return Remedy({f"training.{name}": value for name, value in settings.items()}, costs)
