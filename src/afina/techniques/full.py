"""Full fine-tuning: every weight moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afina.config.techniques import TRAITS
from afina.models.heads import PooledClassifier, pool_otherwise
from afina.models.load import LoadedModel
from afina.techniques.base import WholeModel, checkpoint_activations, load_model

if TYPE_CHECKING:
    from torch import nn

    from afina.techniques.base import Setup


class Full(WholeModel):
    """See `Technique`. The result is an ordinary transformers folder, or the sentence-transformers layout where the
    token vectors are pooled as the architecture's own head can't.
    """

    name = "full"
    traits = TRAITS[name]
    needs = ""
    tasks = frozenset({"text-classification", "text-regression", "text-generation", "token-classification"})

    def load(self, setup: Setup) -> LoadedModel:
        loaded = load_model(setup, dropout=setup.config.training.dropout)
        pooling = setup.config.features.pooling
        if setup.head is None or setup.of_words or pooling in ("auto", "own"):
            return loaded
        return LoadedModel(pool_otherwise(loaded.model, pooling), ("head",))

    def prepare(self, loaded: LoadedModel, setup: Setup) -> nn.Module:
        if setup.config.training.gradient_checkpointing:
            checkpoint_activations(loaded.model.base_model)
        model = loaded.model.requires_grad_(True)
        if isinstance(model, PooledClassifier):
            model.freeze_unread()
        return model
