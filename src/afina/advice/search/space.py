"""Which settings a search tries: for each technique those that it reads, around what it would take by itself.

A setting that the user gave is not searched. The default of every setting lies within its range, so that the default
configuration is a point of the space like any other. Where the rows are neither few nor many, a technique is tried by
both objectives; their rates and epochs mean different things, so each has dimensions of its own: an *arm* of the space.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from afina.config.resolve import MOST_CONTRASTIVE_EPOCHS, MOST_EPOCHS, Sizes, measure_plenty, resolve_config
from afina.config.run import GENERATION, RunConfig
from afina.config.techniques import ADAPTERS, SOLVED

if TYPE_CHECKING:
    import optuna

ARM = "arm"
OBJECTIVE, POOLING, RATE = "training.objective", "features.pooling", "training.learning_rate"
CONTRASTIVE = "contrastive"
# Learning rates from a third to three times the usual one: few trials have no time for one that stands still.
RATE_FACTOR = 3.0
BATCH_SIZES = (8, 16, 32)
# Fewer steps than these an epoch teach little.
FEWEST_STEPS_AN_EPOCH = 4
RANKS = (4, 8, 16, 32, 64)
# The usual ratio of lora_alpha to r; with it the size of the update doesn't depend on the rank.
ALPHA_BY_RANK = 2
# Between so many times the rows up to which pairs are the default, either objective may be the better one. Well below,
# the head's loss was up to 15 points worse; well above, pairs were, and they take twice the time (docs/LOG.md).
FEWEST_OF_BOTH, MOST_OF_BOTH = 0.75, 2.0


@dataclass(frozen=True)
class Dimension:
    """One setting and the values that are tried: `choices`, or numbers from `low` to `high`."""

    setting: str
    default: Any
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether there is anything to choose."""
        return self.choices != (self.default,)

    def suggest(self, trial: optuna.trial.Trial, name: str) -> Any:
        """The study's choice for this trial; numbers on a logarithmic scale."""
        if self.choices:
            return trial.suggest_categorical(name, self.choices)
        if isinstance(self.default, int):
            return trial.suggest_int(name, int(self.low), int(self.high), log=True)
        return round_rate(trial.suggest_float(name, self.low, self.high, log=True))

    def holds(self, value: Any) -> bool:
        """Whether a value is one of those that are tried."""
        return value in self.choices if self.choices else self.low <= value <= self.high


@dataclass(frozen=True)
class Arm:
    """A technique by one objective."""

    technique: str
    settings: Mapping[str, Any]
    """What makes it this arm: the objective, where it isn't the one that the rows' number stands for."""
    by_pairs: bool
    dimensions: Sequence[Dimension]

    @property
    def name(self) -> str:
        """As the study knows it."""
        return f"{self.technique}/{CONTRASTIVE}" if self.by_pairs else self.technique


@dataclass(frozen=True)
class Proposal:
    """What a trial is to run."""

    technique: str
    settings: Mapping[str, Any]
    """By path, such as `training.learning_rate`; only those that aren't the technique's default."""


@dataclass(frozen=True)
class Space:
    """The arms by name."""

    arms: Mapping[str, Arm]
    ties_alpha: bool
    """Whether lora_alpha follows the rank."""

    def suggest(self, trial: optuna.trial.Trial) -> Proposal:
        """A point of the space; asked again for the same trial, the same point."""
        # In one order, however they were given: a storage that machines share takes no other.
        arm = self.arms[trial.suggest_categorical(ARM, sorted(self.arms))]
        found = [(each, each.suggest(trial, f"{arm.name}/{each.setting}")) for each in arm.dimensions]
        settings = {**arm.settings, **{each.setting: value for each, value in found if value != each.default}}
        if self.ties_alpha and "lora.r" in settings:
            settings["lora.lora_alpha"] = float(ALPHA_BY_RANK * settings["lora.r"])
        return Proposal(arm.technique, settings)

    def find_arm(self, technique: str, settings: Mapping[str, Any]) -> Arm | None:
        """The arm of a configuration; None if the search has no such one."""
        for arm in self.arms.values():
            if arm.technique == technique and arm.settings.get(OBJECTIVE) == settings.get(OBJECTIVE):
                return arm
        return None

    def locate(self, technique: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """The study's parameters of a configuration; None if it isn't a point of the space."""
        arm = self.find_arm(technique, settings)
        if arm is None:
            return None
        values = {each.setting: settings.get(each.setting, each.default) for each in arm.dimensions}
        if not all(each.holds(values[each.setting]) for each in arm.dimensions):
            return None
        return {ARM: arm.name, **{f"{arm.name}/{setting}": value for setting, value in values.items()}}

    def loosen(self, parameters: Mapping[str, Any], turn: int) -> dict[str, Any]:
        """The parameters of a point without two of them: that of its arm's first dimension, the learning rate if that
        is searched, and of each of the others in turn. What the study puts there makes a neighbour of the point."""
        arm = self.arms[parameters[ARM]]
        names = [f"{arm.name}/{each.setting}" for each in arm.dimensions]
        free = {*names[:1], *(names[1 + turn % (len(names) - 1) :][:1] if len(names) > 1 else ())}
        return {name: value for name, value in parameters.items() if name not in free}


def build_space(
    config: RunConfig, techniques: Sequence[str], sizes: Sizes, poolings: Sequence[str], given: Collection[str]
) -> Space:
    """The space for one task and model.

    Args:
        config: the description that all trials share; its task is known.
        poolings: those that the model's architecture offers.
        given: paths of settings that the user gave, which stay.
    """
    arms = [arm for name in techniques for arm in list_arms(config, name, sizes, poolings, given)]
    return Space({arm.name: arm for arm in arms}, "lora.lora_alpha" not in given)


def list_arms(
    config: RunConfig, technique: str, sizes: Sizes, poolings: Sequence[str], given: Collection[str]
) -> list[Arm]:
    """A technique by the objective that the rows stand for, and by the other one where that may be the better one."""
    config = config.model_copy(update={"technique": technique})
    usual, _ = resolve_config(config, sizes)
    variants: list[dict[str, Any]] = [{}]
    is_open = OBJECTIVE not in given and technique not in SOLVED
    if is_open and FEWEST_OF_BOTH <= measure_plenty(sizes) <= MOST_OF_BOTH:
        variants.append({OBJECTIVE: CONTRASTIVE if usual.training.objective != CONTRASTIVE else "cross-entropy"})
    arms = []
    for settings in variants:
        wanted = {"objective": settings.get(OBJECTIVE, config.training.objective)}
        varied = config.model_copy(update={"training": config.training.model_copy(update=wanted)})
        resolved, _ = resolve_config(varied, sizes)
        found = list_dimensions(resolved, sizes.train_units, poolings)
        by_pairs = technique not in SOLVED and resolved.training.objective == CONTRASTIVE
        arms.append(
            Arm(technique, settings, by_pairs, [each for each in found if each.is_open and each.setting not in given])
        )
    return arms


def list_dimensions(config: RunConfig, train_rows: int, poolings: Sequence[str]) -> list[Dimension]:
    """The dimensions of a resolved description's technique by its objective."""
    training, lora = config.training, config.lora
    if config.technique in SOLVED:
        return [Dimension(POOLING, config.features.pooling, ("auto", *poolings))]
    rate, usual = float(training.learning_rate), training.per_device_train_batch_size
    batches = {size for size in BATCH_SIZES if size * FEWEST_STEPS_AN_EPOCH <= train_rows}
    low, high = round_rate(rate / RATE_FACTOR), round_rate(min(1.0, rate * RATE_FACTOR))
    found = [
        Dimension(RATE, rate, low=low, high=high),
        find_epochs(int(training.num_train_epochs), by_pairs=training.objective == CONTRASTIVE),
        Dimension("training.per_device_train_batch_size", usual, tuple(sorted({*batches, usual}))),
    ]
    if config.technique not in ADAPTERS:
        if config.task != GENERATION:  # by itself full fine-tuning keeps the architecture's own pooling
            others = tuple(name for name in poolings if name != "own")
            found.append(Dimension(POOLING, config.features.pooling, ("auto", *others)))
        return [*found, Dimension("training.dropout", training.dropout, tuple(dict.fromkeys((training.dropout, 0.1))))]
    found.append(Dimension("lora.r", lora.r, tuple(sorted({*RANKS, lora.r}))))
    found.append(Dimension("lora.lora_dropout", lora.lora_dropout, tuple(dict.fromkeys((lora.lora_dropout, 0.0, 0.1)))))
    if config.task != GENERATION:  # there all linear layers have an adapter by default
        targets = tuple(dict.fromkeys((lora.target_modules, "auto", "all-linear")))
        found.append(Dimension("lora.target_modules", lora.target_modules, targets))
    return found


def find_epochs(usual: int, *, by_pairs: bool) -> Dimension:
    """The passes over the rows around the usual number.

    By pairs the last evaluation is the result, so their number is how far the backbone moves: from half to twice the
    usual one, since three times as far was four points worse (docs/LOG.md). By the head's loss the best evaluation is
    the result, so more of them cost time rather than harm, and early stopping saves some of it: from a third on.
    """
    name = "training.num_train_epochs"
    fewer, most = (2, MOST_CONTRASTIVE_EPOCHS) if by_pairs else (3, MOST_EPOCHS)
    return Dimension(name, usual, low=max(1, math.ceil(usual / fewer)), high=max(usual, min(2 * usual, most)))


def round_rate(value: float) -> float:
    """Three digits: more of them say nothing, and are hard to read."""
    return float(f"{value:.3g}")
