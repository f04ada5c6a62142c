"""The last linear layer of a classifier: find it, set it, fold a scale into it; and a plain head over pooled features.

Letters: B rows of a batch, T tokens, H width of the features, C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from afina.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LinearHead:
    """logits = features @ weight.T + bias."""

    weight_CH: Floats
    bias_C: Floats

    def logits(self, features_NH: Floats) -> Floats:
        """Shape (N, C)."""
        return (features_NH @ self.weight_CH.T + self.bias_C).astype(np.float32)


def find_head(model: Any) -> nn.Linear:
    """The linear layer that gives the logits: the last one outside the backbone.

    Under peft it is the trained copy that is meant, not the original that peft keeps beside it.

    Raises:
        ModelError: for an architecture whose head has no such layer.
    """
    return _locate_head(model)[1]


def find_head_path(model: Any) -> str:
    """The path of that layer in the model, or in the one that peft has wrapped."""
    return _locate_head(model)[0]


def _locate_head(model: Any) -> tuple[str, nn.Linear]:
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    backbone, outputs = model.base_model_prefix, model.config.num_labels
    found = [
        (name, module) for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == outputs
        and not name.startswith(f"{backbone}.") and "original_module" not in name
    ]  # fmt: skip
    if not found:
        raise ModelError(f"{type(model).__name__} has no linear layer that gives its {outputs} logits")
    return found[-1]


class Fp32Linear(nn.Linear):
    """A linear layer that is computed in fp32 whatever surrounds it: bf16 would round its results to three digits."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.to(self.weight.dtype))


def compute_in_fp32(linear: nn.Linear) -> None:
    """Make a plain layer an `Fp32Linear`; its numbers and its name stay."""
    if type(linear) is nn.Linear:
        linear.__class__ = Fp32Linear


def set_head(linear: nn.Linear, head: LinearHead) -> None:
    """Copy a solved head into the layer. A layer without bias takes only a head whose bias is 0."""
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(head.weight_CH))
        if linear.bias is not None:
            linear.bias.copy_(torch.from_numpy(head.bias_C))
        elif head.bias_C.any():
            raise ValueError("a layer without bias can't hold the head's bias")


def scale_head(linear: nn.Linear, scale: float, shift: float) -> None:
    """Make the layer give `scale * logits + shift`."""
    with torch.no_grad():
        linear.weight.mul_(scale)
        if linear.bias is not None:
            linear.bias.mul_(scale).add_(shift)
        elif shift:
            raise ValueError("a layer without bias can't hold a shift")


def pool_mean(hidden_BTH: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """The mean over the row's real tokens, shape (B, H)."""
    weights_BT1 = mask_BT.unsqueeze(-1).to(hidden_BTH.dtype)
    return (hidden_BTH * weights_BT1).sum(dim=1) / weights_BT1.sum(dim=1).clamp(min=1e-9)


def pool_first(hidden_BTH: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """The first token's vector, shape (B, H)."""
    return hidden_BTH[:, 0]


def pool_last(hidden_BTH: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """The last real token's vector, shape (B, H); rows are padded on the right."""
    last_B = mask_BT.sum(dim=1) - 1
    return hidden_BTH[torch.arange(len(hidden_BTH), device=hidden_BTH.device), last_B]


POOLINGS = {"mean": pool_mean, "first": pool_first, "last": pool_last}


class PooledClassifier(nn.Module):
    """A bare backbone, a pooling over its tokens and a linear head: what the sentence-transformers layout describes.

    Its forward looks like a transformers classifier's: an object with `logits` of shape (B, C).
    """

    base_model_prefix = "backbone"

    def __init__(self, backbone: PreTrainedModel, pooling: str, head: nn.Linear) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.head = head

    @property
    def config(self) -> Any:
        """The backbone's config, where the class names are."""
        return self.backbone.config

    @property
    def base_model(self) -> PreTrainedModel:
        """The backbone, under the name that transformers gives it."""
        return self.backbone

    def get_input_embeddings(self) -> Any:
        """The table of token vectors, under the name that transformers gives its method."""
        return self.backbone.get_input_embeddings()

    def set_input_embeddings(self, table: nn.Module) -> None:
        """Put another table in its place."""
        self.backbone.set_input_embeddings(table)

    def freeze_unread(self) -> None:
        """Leave out of training the layer that some backbones put over their first token, which nothing reads here."""
        pooler = getattr(self.backbone, "pooler", None)
        if isinstance(pooler, nn.Module):
            pooler.requires_grad_(False)

    def forward(self, **batch: torch.Tensor) -> Any:
        from transformers.modeling_outputs import SequenceClassifierOutput

        hidden_BTH = self.backbone(**batch).last_hidden_state
        pooled_BH = POOLINGS[self.pooling](hidden_BTH, batch["attention_mask"])
        return SequenceClassifierOutput(logits=self.head(pooled_BH))


def make_linear(head: LinearHead) -> nn.Linear:
    """A torch layer with the head's numbers."""
    outputs, width = head.weight_CH.shape
    linear = Fp32Linear(width, outputs)
    set_head(linear, head)
    return linear


def pool_otherwise(model: PreTrainedModel, pooling: str) -> PooledClassifier:
    """The backbone of a classifier under another pooling and a new head.

    A layer between the architecture's own pooling and its head is not looked through any more.
    """
    width, outputs = find_head(model).in_features, model.config.num_labels
    return PooledClassifier(model.base_model, pooling, Fp32Linear(width, outputs))


def describe_layout(folder: Path) -> str:
    """`peft`, `sentence-transformers` or `transformers`: how the model in `folder` is stored."""
    if (folder / "adapter_config.json").is_file():
        return "peft"
    if (folder / "modules.json").is_file():
        return "sentence-transformers"
    return "transformers"
