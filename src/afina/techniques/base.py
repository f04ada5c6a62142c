"""The seam between how a model is adapted and everything else.

A technique loads the base in the form it needs, says what is trainable, and saves, restores and merges its result.
It knows nothing of tasks: a head is a shape (`num_labels`, names), a batch is a mapping of tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from afina.config.run import GENERATION, TAGGING, RunConfig
from afina.config.techniques import Traits
from afina.errors import ConfigError
from afina.models.load import LoadedModel, load_classifier, load_language_model

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Setup:
    """What every technique is told about the run."""

    base: Path
    """Folder of the pretrained model."""
    reference: str
    """What the user called it: an id on the Hub, or else the folder's path."""
    head: Mapping[str, Any] | None
    """Shape and names of the new head, as settings of a transformers config; None for a language model."""
    pad_token_id: int | None
    config: RunConfig
    precision: str
    """`bf16` stores weights that don't move in bf16; weights that move are fp32 always."""

    @property
    def of_words(self) -> bool:
        """Whether the head reads each token rather than a whole text."""
        return self.config.task == TAGGING

    @property
    def frozen_dtype(self) -> torch.dtype:
        """The dtype of weights that don't move."""
        import torch

        return torch.bfloat16 if self.precision == "bf16" else torch.float32


class Technique(Protocol):
    """What the pipeline and the advice see of a technique."""

    name: str
    traits: Traits
    """What `config/techniques.py` says of it."""
    tasks: frozenset[str]
    """Names of the tasks it can learn."""
    needs: str
    """A package that an extra of the technique's name installs; empty where nothing more is needed."""

    def load(self, setup: Setup) -> LoadedModel:
        """The base with a new head, stored as this technique trains it."""
        ...

    def prepare(self, loaded: LoadedModel, setup: Setup) -> nn.Module:
        """The model with exactly the weights trainable that shall move."""
        ...

    def save(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        """Write the result: safetensors and JSON, loadable without afina."""
        ...

    def restore(self, folder: Path, setup: Setup) -> nn.Module:
        """A saved result, loaded afresh for use."""
        ...

    def merge(self, folder: Path, setup: Setup) -> PreTrainedModel:
        """A saved result as one ordinary model.

        Raises:
            ConfigError: for a technique whose result is one already.
        """
        ...


class WholeModel:
    """What techniques share whose result is one whole model."""

    name: str

    def save(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        save_model(model, tokenizer, folder)

    def restore(self, folder: Path, setup: Setup) -> nn.Module:
        return restore_model(folder, setup)

    def merge(self, folder: Path, setup: Setup) -> PreTrainedModel:
        raise ConfigError(
            f"the result of {self.name} is one model already", found=str(folder), remedy="use it as it is"
        )


def load_model(setup: Setup, folder: Path | None = None, **storage: Any) -> LoadedModel:
    """The base, or the result in `folder`, with the head and the attention of the run.

    Args:
        storage: `dropout`, `dtype` and `quantization` of `load_classifier`.
    """
    allow_kernels(setup)
    attention = setup.config.model.attn_implementation
    if setup.head is None:
        return load_language_model(folder or setup.base, attention=attention, **storage)
    return load_classifier(
        folder or setup.base, setup.head, setup.pad_token_id, attention=attention, is_base=folder is None,
        of_words=setup.of_words, **storage,
    )  # fmt: skip


def allow_kernels(setup: Setup) -> None:
    """Let this process take compiled kernels and lanes, or not, as the run says; no model of a run is loaded before."""
    from afina.kernels.lanes import allow_lanes
    from afina.kernels.native import allow_compiled

    allow_compiled(setup.config.training.compiled_kernels)
    allow_lanes(setup.config.training.side_by_side)


def save_model(model: nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write one whole model and its tokenizer: an ordinary transformers folder if the model is one of transformers'."""
    from afina.models.heads import PooledClassifier
    from afina.models.sentence_layout import save_sentence_model

    if isinstance(model, PooledClassifier):
        save_sentence_model(model, tokenizer, folder)
        return
    model.save_pretrained(folder)  # type: ignore[operator]
    tokenizer.save_pretrained(folder)


def restore_model(folder: Path, setup: Setup) -> nn.Module:
    """What `save_model` wrote, loaded afresh."""
    from afina.models.heads import describe_layout
    from afina.models.sentence_layout import load_sentence_model

    allow_kernels(setup)
    if describe_layout(folder) == "sentence-transformers":
        return load_sentence_model(folder, setup.config.model.attn_implementation)
    return load_model(setup, folder).model


def check_pair(technique: Technique, task: str) -> None:
    """Refuse a technique that can't learn a task.

    Raises:
        ConfigError: naming the tasks that it can learn.
    """
    if task == GENERATION and task not in technique.tasks:
        raise ConfigError(
            f"{technique.name} has no meaning for a language model: it learns what its own head says, and has no other",
            expected="lora (the usual choice), full (much data), qlora (little memory)",
            remedy="--technique lora",
        )
    if task not in technique.tasks:
        raise ConfigError(
            f"the technique {technique.name} can't learn the task {task}", expected=", ".join(sorted(technique.tasks))
        )


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Trainable and all parameters; a weight stored in 4 bits counts its numbers, not its bytes."""
    trainable = total = 0
    for parameter in model.parameters():
        count = parameter.numel()
        if type(parameter).__name__ == "Params4bit" and parameter.dtype.itemsize == 1:
            count *= 2
        total += count
        trainable += count if parameter.requires_grad else 0
    return trainable, total


def describe_parameters(model: nn.Module) -> str:
    """The line that peft prints: `trainable params: ... || all params: ... || trainable%: ...`."""
    trainable, total = count_parameters(model)
    return f"trainable params: {trainable:,} || all params: {total:,} || trainable%: {100 * trainable / total:.4f}"


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Compute activations again in the backward pass instead of keeping them. Its name differs between versions.

    Raises:
        ConfigError: for a model of transformers that has no way to.
    """
    check_checkpoints(model)
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def check_checkpoints(model: PreTrainedModel) -> None:
    """Refuse to compute activations again where the model can't.

    Raises:
        ConfigError: for a model of transformers that has no way to.
    """
    if not model.supports_gradient_checkpointing:
        raise ConfigError(
            f"{type(model).__name__} can't compute activations again in the backward pass",
            found="training.gradient_checkpointing=true",
            remedy="leave it out; for less memory a smaller --per-device-train-batch-size, with"
            " --set training.gradient_accumulation_steps",
        )


def iterate_trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters that move, in the model's order."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name, parameter
