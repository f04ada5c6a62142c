"""The optimizer and the learning rate: AdamW that decays matrices only, the rate a function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from afina.config.run import TrainingConfig
from afina.kernels.adamw import Constants, Moved, measure_norm, take_step
from afina.training.weight_copies import find_copies


class AdamW(torch.optim.AdamW):
    """torch's AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) with what else is done to a gradient before a step."""

    def measure_norm(self) -> Tensor:
        """The L2 norm of the whole gradient."""
        return torch.nn.utils.get_total_norm([p.grad for p in self.list_moved() if p.grad is not None])

    def clip(self, norm: float, longest: float) -> None:
        """Scale a gradient of this norm down to that one."""
        torch.nn.utils.clip_grads_with_norm_(self.list_moved(), longest, torch.tensor(norm))

    def end_pass(self) -> None:
        """What there is to do after a backward pass that another one of the same step follows."""

    def list_leaves(self) -> list[Tensor]:
        """All that takes a gradient."""
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def list_moved(self) -> list[nn.Parameter]:
        """The parameters that have a gradient."""
        return [p for group in self.param_groups for p in group["params"] if p.grad is not None]


class OnePassAdamW(AdamW):
    """The same up to rounding, in one pass over the weights, of which some have bf16 copies that get their gradients.

    Args:
        copies: of the parameters that have one. A step leaves each equal to its rounded parameter.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, copies: Mapping[Tensor, Tensor]) -> None:
        super().__init__(groups, lr=lr)
        self.copies = copies
        self.factor = 1.0

    def measure_norm(self) -> Tensor:
        return torch.tensor(measure_norm([gradient for _, _, gradient in self.iterate_gradients()]))

    def clip(self, norm: float, longest: float) -> None:
        self.factor = min(1.0, longest / (norm + 1e-6))  # as torch's clipping does, for a gradient of nearly nothing

    def list_leaves(self) -> list[Tensor]:
        return [*super().list_leaves(), *(copy for copy in self.copies.values() if copy.requires_grad)]

    def end_pass(self) -> None:
        """Sums of several passes are in fp32, and in the parameters."""
        for parameter, copy in self.copies.items():
            if copy.grad is not None:
                add_gradient(parameter, copy)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move what has a gradient, as it was clipped."""
        moved = []
        for parameter, group, gradient in self.iterate_gradients():
            state = self.state[parameter] or self.begin_state(parameter)
            state["step"] += 1
            moved.append(Moved(
                parameter, state["exp_avg"], state["exp_avg_sq"], gradient, self.copies.get(parameter),
                float(group["lr"]), group["weight_decay"], int(state["step"]),
            ))  # fmt: skip
        beta1, beta2 = self.defaults["betas"]
        take_step(moved, Constants(self.factor, beta1, beta2, self.defaults["eps"]))

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none=True)
        for copy in self.copies.values():
            copy.grad = None
        self.factor = 1.0

    def begin_state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """The state before the first step, as torch's AdamW has it: checkpoints are the same."""
        zeros = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        self.state[parameter] = {"step": torch.zeros(()), **zeros}
        return self.state[parameter]

    def iterate_gradients(self) -> Iterator[tuple[nn.Parameter, dict[str, Any], Tensor]]:
        """Each parameter that has a gradient, its group, and the gradient in the dtype it is in."""
        for group in self.param_groups:
            for parameter in group["params"]:
                copy = self.copies.get(parameter)
                if copy is not None and copy.grad is not None and parameter.grad is not None:
                    add_gradient(parameter, copy)  # of a pass before, or of code that reads the weight itself
                found = copy.grad if copy is not None and copy.grad is not None else parameter.grad
                if found is not None:
                    yield parameter, group, found.contiguous()


def add_gradient(parameter: Tensor, copy: Tensor) -> None:
    """Add the copy's gradient to that of its parameter, in fp32."""
    assert copy.grad is not None
    parameter.grad = copy.grad.float() if parameter.grad is None else parameter.grad.add_(copy.grad)
    copy.grad = None


def make_optimizer(model: nn.Module, learning_rate: float, weight_decay: float) -> AdamW:
    """AdamW over what is trainable: in one pass where layers have copies of their weights, else fused where torch can.

    Norms, biases and other vectors aren't decayed: pulling a scale to 0 regularises nothing.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trainable if parameter.ndim >= 2]
    vectors = [parameter for parameter in trainable if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    copies = find_copies(model)
    if copies:
        return OnePassAdamW(groups, learning_rate, copies)
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in trainable)
    return AdamW(groups, lr=learning_rate, fused=fused)


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
