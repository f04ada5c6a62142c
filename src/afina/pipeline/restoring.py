"""The model of a finished run, opened from its folder: every file checked, read and loaded once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.config.run import GENERATION, RunConfig
from afina.config.techniques import ADAPTERS
from afina.data.cache import locate_cache
from afina.data.labels import LabelSpace
from afina.errors import ModelError
from afina.models.fingerprint import hash_weights
from afina.models.gguf import convert_gguf
from afina.models.inspect import inspect_model
from afina.models.load import load_tokenizer
from afina.models.resolve import resolve_model
from afina.pipeline.description import check_as_written, is_lost
from afina.pipeline.source import NEEDS
from afina.runs.class_names import check_class_names
from afina.runs.folder import RunFolder
from afina.tasks.registry import make_task
from afina.techniques.base import Setup, Technique
from afina.techniques.registry import make_technique
from afina.training.precision import choose_device, choose_precision

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HASH_SHOWN = 16


@dataclass(frozen=True)
class Restored:
    """What a finished run answers with."""

    technique: Technique
    setup: Setup
    tokenizer: PreTrainedTokenizerBase
    model: Any
    """On the device."""
    device: str


def restore_run(folder: RunFolder, stored: Mapping[str, Any]) -> Restored:
    """The run's model, ready to compute.

    Args:
        stored: what its task.json holds.

    Raises:
        RunFolderError: if the run isn't finished, or a file is missing, or another one than the run wrote.
        ModelError: if the model beside which an adapter was trained is gone or changed.
    """
    folder.check_finished()
    folder.check_model()
    config, tokenizer = folder.read_config(), load_tokenizer(folder.model)
    device = choose_device("auto").value
    # A run in fp32 stays in fp32; one in bf16 is used in bf16 where the hardware computes in it.
    precision = choose_precision("fp32" if config.training.precision == "fp32" else "auto", device).value
    technique = make_technique(str(config.technique))
    setup = make_setup(folder, config, stored, tokenizer.pad_token_id, precision)
    return Restored(technique, setup, tokenizer, technique.restore(folder.model, setup).to(device), device)


def make_setup(
    folder: RunFolder, config: RunConfig, stored: Mapping[str, Any], pad_token_id: int | None, precision: str
) -> Setup:
    """What a technique needs to restore or merge the model of a finished run."""
    check_as_written(folder, config)
    head = None  # a language model has its own
    if stored["task"] != GENERATION:
        head = make_task(stored["task"], LabelSpace.from_dict(stored["labels"])).head_shape().as_config()
        check_class_names(folder, head.get("id2label", {}))
    base = find_base(config, stored["base"]) if config.technique in ADAPTERS else folder.model
    return Setup(base, stored["base"]["reference"], head, pad_token_id, config, precision)


def find_base(config: RunConfig, stored: Mapping[str, Any]) -> Path:
    """The folder of the model beside which an adapter was trained, looked at as any model that is named."""
    original = Path(str(config.model.reference))
    if original.suffix == ".gguf" and not Path(stored["reference"]).exists():
        # The folder that was made of the GGUF file lay in a cache, which has been emptied.
        return convert_gguf(resolve_model(str(original), allow_gguf=True), locate_cache())
    if is_lost(stored["reference"]):
        raise ModelError(
            "the model beside which the adapter was trained is no longer where it was",
            found=f"nothing at {stored['reference']}",
            remedy="bring it back there, or write the place where it is now as base.reference into the run's task.json",
        )
    base = resolve_model(stored["reference"], stored["revision"])
    inspect_model(base, NEEDS.get(str(config.task), "sequence-classification"))
    known, found = stored.get("weights"), hash_weights(base) if stored.get("weights") else None
    if found != known:
        raise ModelError(
            "the weights of the model beside which the adapter was trained have changed since",
            found=f"{str(found)[:HASH_SHOWN]} in {base}", expected=str(known)[:HASH_SHOWN],
            remedy="bring the old ones back, or take base.weights out of the run's task.json to use these all the same",
        )  # fmt: skip
    return base


def describe_base(setup: Setup) -> dict[str, Any]:
    """What task.json holds of the model that a run began with; an adapter is nothing without its weights."""
    base = {"reference": setup.reference, "revision": setup.config.model.revision}
    return base | ({"weights": hash_weights(setup.base)} if setup.config.technique in ADAPTERS else {})
