"""Full fine-tuning: every weight moves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from afina.errors import ConfigError
from afina.models.load import LoadedModel
from afina.techniques.base import checkpoint_activations, load_model

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from afina.techniques.base import Setup


class Full:
    """See `Technique`. The result is an ordinary transformers folder."""

    name = "full"
    learns_by: Literal["gradient", "solver"] = "gradient"
    moves: Literal["all", "head", "adapter"] = "all"
    stored_in_4_bits = False
    tasks = frozenset({"text-classification", "text-regression", "text-generation"})

    def load(self, setup: Setup) -> LoadedModel:
        return load_model(setup, dropout=setup.config.training.dropout)

    def prepare(self, loaded: LoadedModel, setup: Setup) -> nn.Module:
        if setup.config.training.gradient_checkpointing:
            checkpoint_activations(loaded.model)
        return loaded.model.requires_grad_(True)

    def save(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        model.save_pretrained(folder)  # type: ignore[operator]
        tokenizer.save_pretrained(folder)

    def restore(self, folder: Path, setup: Setup) -> nn.Module:
        return load_model(setup, folder).model

    def merge(self, folder: Path, setup: Setup) -> PreTrainedModel:
        raise ConfigError(
            f"the result of {self.name} is one model already", found=str(folder), remedy="use it as it is"
        )
