"""The optimizer and the learning rate: AdamW that decays matrices only, the rate a function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from afina.config.run import TrainingConfig


def make_optimizer(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over what is trainable (Loshchilov & Hutter 2019, arXiv 1711.05101), fused where torch can.

    Norms, biases and other vectors aren't decayed: pulling a scale to 0 regularises nothing.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trainable if parameter.ndim >= 2]
    vectors = [parameter for parameter in trainable if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in trainable)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, fused=fused)


def learning_rate_at(step: int, total_steps: int, peak: float, config: TrainingConfig) -> float:
    """The learning rate of optimizer step `step`, the first one being 0.

    It rises linearly over `warmup_ratio` of the steps, then falls to 0 (linear, cosine) or stays (constant).
    """
    warmup_steps = math.ceil(config.warmup_ratio * total_steps)
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    if config.lr_scheduler_type == "constant":
        return peak
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    if config.lr_scheduler_type == "cosine":
        return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
    return peak * (1.0 - progress)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give all groups this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
