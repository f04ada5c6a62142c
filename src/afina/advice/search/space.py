"""Which settings a search tries: for each technique those that it reads, around what it would take by itself.

A setting that the user gave is not searched. The default of every setting lies within its range, so that the default
configuration is a point of the space like any other.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from afina.config.resolve import MOST_EPOCHS, Facts, resolve_config
from afina.config.run import RunConfig

if TYPE_CHECKING:
    import optuna

TECHNIQUE = "technique"
# Learning rates from a fifth to three times the usual one: beyond, training stands still or falls apart.
RATE_BELOW, RATE_ABOVE = 5.0, 3.0
BATCH_SIZES = (8, 16, 32)
# Fewer steps than these an epoch teach little.
FEWEST_STEPS_AN_EPOCH = 4
RANKS = (4, 8, 16, 32, 64)
# The usual ratio of lora_alpha to r; with it the size of the update doesn't depend on the rank.
ALPHA_BY_RANK = 2
ADAPTERS = ("lora", "qlora")


@dataclass(frozen=True)
class Dimension:
    """One setting and the values that are tried: `choices`, or numbers from `low` to `high`."""

    setting: str
    default: Any
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0

    def suggest(self, trial: optuna.trial.Trial, name: str) -> Any:
        """The study's choice for this trial; whole numbers on a plain scale, others on a logarithmic one."""
        if self.choices:
            return trial.suggest_categorical(name, self.choices)
        if isinstance(self.default, int):
            return trial.suggest_int(name, int(self.low), int(self.high))
        return float(f"{trial.suggest_float(name, self.low, self.high, log=True):.3g}")


@dataclass(frozen=True)
class Proposal:
    """What a trial is to run."""

    technique: str
    settings: Mapping[str, Any]
    """By path, such as `training.learning_rate`; only those that aren't the technique's default."""


@dataclass(frozen=True)
class Space:
    """The techniques, and the dimensions of each."""

    dimensions: Mapping[str, Sequence[Dimension]]
    ties_alpha: bool
    """Whether lora_alpha follows the rank."""

    def suggest(self, trial: optuna.trial.Trial) -> Proposal:
        """A point of the space; asked again for the same trial, the same point."""
        # In one order, however they were given: a storage that machines share takes no other.
        technique = trial.suggest_categorical(TECHNIQUE, sorted(self.dimensions))
        found = [(each, each.suggest(trial, f"{technique}/{each.setting}")) for each in self.dimensions[technique]]
        settings = {each.setting: value for each, value in found if value != each.default}
        if self.ties_alpha and "lora.r" in settings:
            settings["lora.lora_alpha"] = float(ALPHA_BY_RANK * settings["lora.r"])
        return Proposal(technique, settings)

    def default_of(self, technique: str) -> dict[str, Any]:
        """The study's parameters of a technique's default configuration."""
        return {
            TECHNIQUE: technique,
            **{f"{technique}/{each.setting}": each.default for each in self.dimensions[technique]},
        }


def build_space(
    config: RunConfig, techniques: Sequence[str], facts: Facts, poolings: Sequence[str], given: Collection[str]
) -> Space:
    """The space for one task and model.

    Args:
        config: the description that all trials share; its task is known.
        poolings: those that the model's architecture offers.
        given: paths of settings that the user gave, which stay.
    """
    dimensions = {}
    for technique in techniques:
        resolved, _ = resolve_config(config.model_copy(update={"technique": technique}), facts)
        found = list_dimensions(resolved, facts.train_rows, poolings)
        dimensions[technique] = [each for each in found if each.setting not in given]
    return Space(dimensions, "lora.lora_alpha" not in given)


def list_dimensions(config: RunConfig, train_rows: int, poolings: Sequence[str]) -> list[Dimension]:
    """The dimensions of a resolved description's technique."""
    training, lora = config.training, config.lora
    if config.technique == "feature-extraction":
        return [Dimension("features.pooling", config.features.pooling, ("auto", *poolings))]
    rate, epochs = float(training.learning_rate), int(training.num_train_epochs)
    usual = training.per_device_train_batch_size
    batches = {size for size in BATCH_SIZES if size * FEWEST_STEPS_AN_EPOCH <= train_rows}
    found = [
        Dimension("training.learning_rate", rate, low=rate / RATE_BELOW, high=min(1.0, rate * RATE_ABOVE)),
        Dimension(
            "training.num_train_epochs", epochs, low=max(1, math.ceil(epochs / 3)),
            high=max(epochs, min(2 * epochs, MOST_EPOCHS)),
        ),
        Dimension("training.per_device_train_batch_size", usual, tuple(sorted({*batches, usual}))),
    ]  # fmt: skip
    if config.technique not in ADAPTERS:
        return [*found, Dimension("training.dropout", training.dropout, tuple(dict.fromkeys((training.dropout, 0.1))))]
    found.append(Dimension("lora.r", lora.r, tuple(sorted({*RANKS, lora.r}))))
    found.append(Dimension("lora.lora_dropout", lora.lora_dropout, tuple(dict.fromkeys((lora.lora_dropout, 0.0, 0.1)))))
    if config.task != "text-generation":  # there all linear layers have an adapter by default
        targets = tuple(dict.fromkeys((lora.target_modules, "auto", "all-linear")))
        found.append(Dimension("lora.target_modules", lora.target_modules, targets))
    return found
