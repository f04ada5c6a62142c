"""Every `auto` of a run's description becomes a value with its reason; what the user gave stays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from afina.config.reason import Reason
from afina.config.run import GENERATION, RunConfig
from afina.config.techniques import ADAPTERS, SOLVED
from afina.errors import ConfigError

LONGEST_BY_DEFAULT = 512
# Fewer optimizer steps than this leave a head and its backbone half adapted, however many epochs they are.
FEWEST_STEPS = 600
MOST_EPOCHS = 20
USUAL_EPOCHS = 3
# Pairs are many more than rows, so a contrastive objective needs fewer steps, and each epoch of few rows has few.
FEWEST_CONTRASTIVE_STEPS = 100
MOST_CONTRASTIVE_EPOCHS = 50
# Up to so many rows in all, or so many a class, a backbone is moved by pairs of rows rather than by the head's loss.
# With more rows the gain is small, and the steps read twice as many of them.
FEW_ROWS = 512
FEW_ROWS_PER_CLASS = 16

# Peak rate of full fine-tuning for a model as wide as BERT-base; narrower models take (and need) larger steps.
FULL_RATE = 5e-5
FULL_WIDTH = 768
# "LoRA Without Regret" (Thinking Machines, 2025): the best rate of LoRA is about ten times that of full fine-tuning.
LORA_FACTOR = 10.0


@dataclass(frozen=True)
class Sizes:
    """What the choices look at."""

    train_units: int
    """What a pass of training goes over: rows, or the windows that long ones are read in."""
    hidden_size: int
    max_positions: int | None
    """Tokens the model can take; None if it has no limit."""
    classes: int = 0
    """Classes of which each row has one; 0 where rows have several labels, a number or none."""


def resolve_config(config: RunConfig, sizes: Sizes) -> tuple[RunConfig, list[Reason]]:
    """The description without any `auto` that depends on data and model, and a reason for each value chosen."""
    length = choose_max_seq_length(config, sizes)
    objective = choose_objective(config, sizes)
    config = config.model_copy(update={"training": config.training.model_copy(update={"objective": objective.value})})
    rate = choose_learning_rate(config, sizes)
    epochs = choose_epochs(config, sizes)
    values: dict[str, dict[str, Any]] = {
        "model": {"max_seq_length": length.value},
        "training": {"learning_rate": rate.value, "num_train_epochs": epochs.value},
        "lora": {"lora_dropout": choose_lora_dropout(config)},
    }
    update = {section: getattr(config, section).model_copy(update=chosen) for section, chosen in values.items()}
    learned_by_steps = config.technique not in SOLVED
    told = [objective] if objective.value != "cross-entropy" else []
    told += remark_rank(config, sizes)
    return config.model_copy(update=update), [length, *([*told, rate, epochs] if learned_by_steps else [])]


def resolve_for(config: RunConfig, technique: str, sizes: Sizes) -> tuple[RunConfig, list[Reason]]:
    """`resolve_config` of the same description for one technique."""
    return resolve_config(config.model_copy(update={"technique": technique}), sizes)


def remark_rank(config: RunConfig, sizes: Sizes) -> list[Reason]:
    """What there is to say of a rank that no layer of the model has; nothing of others."""
    rank, width = config.lora.r, sizes.hidden_size
    if config.technique not in ADAPTERS or not width or rank <= width:
        return []
    reason = f"as given, but layers are {width:,} wide: a rank above that costs memory and can express no more"
    return [Reason("lora.r", rank, reason)]


def choose_lora_dropout(config: RunConfig) -> float:
    """Dropout of the adapter's inputs: what was asked for, else the usual 0.1, and none for language models.

    Their adapters are many, and drawing random numbers for each takes a fifth of a step.
    """
    wanted = config.lora.lora_dropout
    if wanted != "auto":
        return wanted
    return 0.0 if config.task == GENERATION else 0.1


def choose_max_seq_length(config: RunConfig, sizes: Sizes) -> Reason:
    """Tokens a row may keep: what was asked for within the model's limit, else the limit or 512, the smaller one."""
    wanted, limit = config.model.max_seq_length, sizes.max_positions
    name = "model.max_seq_length"
    if wanted != "auto":
        if limit is not None and wanted > limit:
            return Reason(name, limit, f"{wanted} was asked for, but the model can't take more than {limit} tokens")
        return Reason(name, wanted, "as given")
    if limit is not None and limit <= LONGEST_BY_DEFAULT:
        return Reason(name, limit, "the model's limit")
    return Reason(name, LONGEST_BY_DEFAULT, "the usual limit: the longer a row, the more time and memory it takes")


def choose_objective(config: RunConfig, sizes: Sizes) -> Reason:
    """What is minimised: pairs of rows where a class has few of them, else the head's cross-entropy.

    Raises:
        ConfigError: for a contrastive objective where rows don't have one class each.
    """
    name, wanted = "training.objective", config.training.objective
    if wanted == "contrastive" and not sizes.classes:
        raise ConfigError(
            "a contrastive objective needs rows with one class each: it draws together those of one class",
            found=f"{name}: contrastive", expected="cross-entropy or auto", remedy=f"--set {name}=auto",
        )  # fmt: skip
    if wanted != "auto":
        return Reason(name, wanted, "as given")
    if measure_plenty(sizes) > 1:
        return Reason(name, "cross-entropy", "the usual one")
    rows, per_class = sizes.train_units, sizes.train_units / sizes.classes
    return Reason(name, "contrastive", f"{rows:,} rows, {per_class:.0f} a class, are few, and pairs of them are many")


def measure_plenty(sizes: Sizes) -> float:
    """How many rows there are for each one that `few rows` may have, in all or a class: 1 at the limit up to which they
    are learned by pairs, infinite where rows don't have one class each."""
    if not sizes.classes:
        return math.inf
    return min(sizes.train_units / FEW_ROWS, sizes.train_units / sizes.classes / FEW_ROWS_PER_CLASS)


def choose_learning_rate(config: RunConfig, sizes: Sizes) -> Reason:
    """Peak learning rate by technique and width."""
    name, wanted = "training.learning_rate", config.training.learning_rate
    if wanted != "auto":
        return Reason(name, wanted, "as given")
    full = FULL_RATE * FULL_WIDTH / sizes.hidden_size if sizes.hidden_size else FULL_RATE
    full = float(f"{min(max(full, 1e-5), 2e-4):.2g}")
    if config.technique in ADAPTERS:
        rate = float(f"{min(full * LORA_FACTOR, 2e-3):.2g}")
        return Reason(name, rate, f"ten times that of full fine-tuning for a width of {sizes.hidden_size} ({full:g})")
    return Reason(
        name, full, f"{FULL_RATE:g} at a width of {FULL_WIDTH}, in inverse proportion to the width {sizes.hidden_size}"
    )


def choose_epochs(config: RunConfig, sizes: Sizes) -> Reason:
    """Three passes, and more where that is fewer than `FEWEST_STEPS` steps."""
    name, wanted = "training.num_train_epochs", config.training.num_train_epochs
    rows_a_step = config.training.per_device_train_batch_size * config.training.gradient_accumulation_steps
    steps = max(1, math.ceil(sizes.train_units / rows_a_step))
    if config.training.max_steps:
        epochs = math.ceil(config.training.max_steps / steps)
        instead = "" if wanted in ("auto", epochs) else f", in place of the {wanted} that were asked for"
        reason = f"max_steps={config.training.max_steps} are that many of {steps} steps, or a part{instead}"
        return Reason(name, epochs, reason)
    if wanted != "auto":
        return Reason(name, wanted, "as given")
    if config.task == GENERATION:
        return Reason(name, USUAL_EPOCHS, "the usual number; more of them make a language model repeat its examples")
    fewest, most = FEWEST_STEPS, MOST_EPOCHS
    if config.training.objective == "contrastive":
        fewest, most = FEWEST_CONTRASTIVE_STEPS, MOST_CONTRASTIVE_EPOCHS
    epochs = min(most, max(USUAL_EPOCHS, math.ceil(fewest / steps)))
    if epochs == USUAL_EPOCHS:
        return Reason(name, epochs, f"the usual number; {steps} steps each")
    return Reason(
        name,
        epochs,
        f"{steps} steps an epoch are few, so enough epochs for {fewest} steps, at most {most}",
    )
