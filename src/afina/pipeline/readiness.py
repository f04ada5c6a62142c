"""What a run is made ready with, whatever it learns: a technique that suits, hardware, room on the disk, its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afina.config.resolve import Sizes
from afina.config.run import RunConfig
from afina.data.batches import TOKENS_AT_ONCE
from afina.data.labels import LabelSpace
from afina.errors import MissingExtraError
from afina.models.inspect import ModelFacts
from afina.pipeline.narrator import Narrator
from afina.runs.creation import CHECKPOINT_BYTES, EXTRA_CHECKPOINTS, check_free_space, measure_folder
from afina.runs.folder import RunFolder

if TYPE_CHECKING:
    from afina.techniques.base import Technique

WEIGHT_BYTES = 4


def resolve_hardware(config: RunConfig, narrator: Narrator) -> RunConfig:
    """The description with device and number format."""
    from afina.training.precision import choose_device, choose_precision

    device = choose_device(config.training.device)
    precision = choose_precision(config.training.precision, device.value)
    if narrator.status:
        narrator.status.device = device.value
    for reason in (device, precision):
        narrator.explain(reason)
    training = config.training.model_copy(update={"device": device.value, "precision": precision.value})
    return settle_tokens_at_once(config.model_copy(update={"training": training}), device.value)


def settle_tokens_at_once(config: RunConfig, device: str) -> RunConfig:
    """The description with the tokens of a batch of an evaluation, by default as many as the device takes well."""
    if config.evaluation.eval_tokens_per_batch != "auto":
        return config
    evaluation = config.evaluation.model_copy(update={"eval_tokens_per_batch": TOKENS_AT_ONCE[device]})
    return config.model_copy(update={"evaluation": evaluation})


def make_sizes(train_units: int, model: ModelFacts, labels: LabelSpace | None) -> Sizes:
    """What the choice of settings looks at; a language model has no labels.

    Args:
        train_units: see `Sizes`.
    """
    classes = len(labels.names) if labels is not None and labels.kind == "multiclass" else 0
    return Sizes(train_units, model.hidden_size, model.max_positions, classes)


def find_technique(config: RunConfig, task: str, facts: ModelFacts, folder: RunFolder) -> Technique:
    """The technique that the description names, once it is known to suit the task, the disk and what is installed."""
    from afina.techniques.base import check_pair
    from afina.techniques.registry import is_installed, make_technique

    technique = make_technique(str(config.technique))
    check_pair(technique, task)
    if not is_installed(type(technique)):
        raise MissingExtraError(technique.needs, technique.name, f"the technique {technique.name}")
    check_disk(technique, facts, config, folder)
    return technique


def check_disk(technique: Technique, facts: ModelFacts, config: RunConfig, folder: RunFolder) -> None:
    """Refuse a run whose model and checkpoints won't fit on the disk."""
    weights = facts.parameters // 10 if technique.traits.moves == "adapter" else facts.parameters
    checkpoint = weights * CHECKPOINT_BYTES if technique.traits.learns_by == "gradient" else 0
    # A resumed run has some of them already.
    needed, least = (
        weights * WEIGHT_BYTES + checkpoint * (kept + EXTRA_CHECKPOINTS) - measure_folder(folder.checkpoints)
        for kept in (config.training.save_total_limit, 1)
    )
    check_free_space(folder.path, needed, least)


def list_parts(config: RunConfig) -> tuple[str, ...]:
    """The parts that the run looks at."""
    return ("train", "validation", "test") if config.evaluation.score_test else ("train", "validation")


def name_scored_part(config: RunConfig) -> str:
    """The part whose scores stand in the report."""
    return "test" if config.evaluation.score_test else "validation"
