"""The two halves of a language model: the backbone that gives hidden states, and the head that scores the next token.

Taken apart, the head runs on the positions that count alone (`kernels/loss.py`). What stands between the two in some
families, a cap or a scale, is read from the config; whether the halves together are the model is proven by a
comparison with its own forward before any step is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from afina.data.packing import TokenBatch
from afina.kernels.loss import head_loss, score_targets


@dataclass(frozen=True)
class SplitLanguageModel:
    """A language model as its backbone and its output layer. Letters: K targets, H width."""

    backbone: nn.Module
    linear: nn.Linear | None
    """None where the two can't be taken apart: `backbone` is then the whole model, and its hidden states the logits."""
    softcap: float | None = None
    """Largest logit, approached by a tanh (Gemma 2); None where there is no cap."""
    scale: float = 1.0
    """What logits are multiplied by (Granite, Cohere)."""

    def select_hidden(self, batch: TokenBatch) -> Tensor:
        """Hidden states at the batch's places, shape (K, H)."""
        hidden_BTH = self.backbone(**batch.inputs, use_cache=False)[0]
        return hidden_BTH.flatten(0, 1)[batch.places_K]

    def sum_losses(self, batch: TokenBatch) -> Tensor:
        """The summed negative log likelihood of the batch's targets, with a gradient."""
        hidden_KH = self.select_hidden(batch)
        if self.linear is None:
            return functional.cross_entropy(hidden_KH.float(), batch.targets_K, reduction="sum")
        return head_loss(hidden_KH, self.linear.weight, self.linear.bias, batch.targets_K, **self.settings)

    def score_targets(self, hidden_KH: Tensor, targets_K: Tensor) -> tuple[float, int]:
        """The summed negative log likelihood for hidden states that were computed already, and how many targets are the
        likeliest token; without gradients."""
        if self.linear is None:
            loss = functional.cross_entropy(hidden_KH.float(), targets_K, reduction="sum")
            return float(loss), int((hidden_KH.argmax(dim=-1) == targets_K).sum())
        loss, correct = score_targets(hidden_KH, self.linear.weight, self.linear.bias, targets_K, **self.settings)
        return float(loss), int(correct)

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments of the kernel."""
        return {"softcap": self.softcap, "scale": self.scale}


def split_language_model(model: Any) -> SplitLanguageModel:
    """A causal language model, with or without an adapter, in its halves; undivided if its output is no plain layer."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    linear = model.get_output_embeddings()
    backbone = getattr(model, model.base_model_prefix, None)
    if not isinstance(linear, nn.Linear) or not isinstance(backbone, nn.Module):
        return SplitLanguageModel(model, None)
    config = model.config.get_text_config()
    scale = 1.0 / (getattr(config, "logits_scaling", None) or 1.0) * (getattr(config, "logit_scale", None) or 1.0)
    return SplitLanguageModel(backbone, linear, getattr(config, "final_logit_softcapping", None), scale)


@torch.no_grad()
def compare_with_forward(model: Any, head: SplitLanguageModel, batch: TokenBatch) -> tuple[float, float]:
    """The mean loss of a batch by the halves and by the model's own forward."""
    halves = float(head.sum_losses(batch)) / len(batch.targets_K)
    logits_BTV = model(**batch.inputs, use_cache=False).logits
    logits_KV = logits_BTV.flatten(0, 1)[batch.places_K].float()
    return halves, float(functional.cross_entropy(logits_KV, batch.targets_K))
