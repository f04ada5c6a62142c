"""Feature extraction: the backbone stays as it is, and a linear head on its features is solved to its optimum.

Where the architecture's own last layer reads the chosen features, the result is an ordinary transformers folder.
Where it can't (mean pooling under a BERT, whose head reads the first token), it is the sentence-transformers
layout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afina.config.techniques import TRAITS
from afina.models.heads import LinearHead, PooledClassifier, find_head, make_linear, set_head
from afina.models.load import LoadedModel
from afina.techniques.base import WholeModel, load_model

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from afina.techniques.base import Setup


class FeatureExtraction(WholeModel):
    """See `Technique`."""

    name = "feature-extraction"
    traits = TRAITS[name]
    needs = ""
    tasks = frozenset({"text-classification", "text-regression", "token-classification"})

    def load(self, setup: Setup) -> LoadedModel:
        return load_model(setup)

    def prepare(self, loaded: LoadedModel, setup: Setup) -> nn.Module:
        loaded.model.requires_grad_(False)
        find_head(loaded.model).requires_grad_(True)
        return loaded.model

    def install(self, model: PreTrainedModel, head: LinearHead, pooling: str) -> nn.Module:
        """The model with the solved head on the pooling that it was solved for."""
        if pooling == "own":
            set_head(find_head(model), head)
            return model
        classifier = PooledClassifier(model.base_model, pooling, make_linear(head))
        classifier.backbone.requires_grad_(False)
        return classifier.eval()
