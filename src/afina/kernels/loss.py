"""Cross-entropy of a language model's head without the logits of a whole batch: equal to the plain loss up to rounding.

Logits of a batch are the largest tensor of a training step: 700 positions of 49,152 tokens take 138 MB in fp32, and
the plain path holds several of that size. Here positions come in chunks. The gradient of a sum of losses is known as
soon as the logits are, so the forward pass forms it, and the backward pass only multiplies by the factor that comes in.
Products keep their dtype; softmax, the loss and the sums of the gradients are in fp32. docs/LOG.md has the figures.
In bf16 on a CPU `token_loss.py` takes a chunk in one pass, where nothing is added to the logits and no cap bends them.

    Z = scale (H W^T + b),  Y = c tanh(Z / c),  loss = sum_n (log sum_v exp Y_nv - Y_n,target)
    dY = softmax(Y) - onehot(target),  dZ = dY (1 - (Y / c)^2),  dH = scale dZ W,
    dW = scale dZ^T H,  db = scale sum_n dZ

Letters: N positions, H width, V tokens of the vocabulary, R positions of a chunk, B positions and T tokens of a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from afina.kernels.attention import find_compute_dtype
from afina.kernels.token_loss import suits_kernel, take_losses

# Logits of one chunk in the dtype of the products: larger ones are hardly faster, smaller ones are slower.
CHUNK_BYTES = 64 * 2**20
# What is in fp32 at a time on a CPU: a few rows, so that the passes over them stay in the caches.
BLOCK_BYTES = 2 * 2**20


@dataclass(frozen=True)
class Plan:
    """How logits are computed, and for how many positions at a time."""

    dtype: torch.dtype  # of the products
    sum_dtype: torch.dtype  # of everything that is summed
    chunk_rows: int
    block_bytes: int
    softcap: float | None
    scale: float

    def count_rows(self, matrix: Tensor) -> int:
        """How many rows of the matrix fit a block, in fp32."""
        return max(1, self.block_bytes // (matrix.shape[1] * torch.float32.itemsize))


def head_loss(
    hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, targets_N: Tensor,
    *, chunk_rows: int | None = None, softcap: float | None = None, scale: float = 1.0,
) -> Tensor:  # fmt: skip
    """The summed negative log likelihood of the targets: a scalar in fp32, or in fp64 if the hidden states are.

    The backward pass scales the gradients where they lie, so a second one through the same loss is an error.

    Args:
        targets_N: a token for each position. None is ignored: choose the positions before.
        chunk_rows: for how many positions logits are held at most; for as many as fit `CHUNK_BYTES` if None.
        softcap: c in the formula above, as in Gemma 2; None caps nothing.
        scale: what logits and bias are multiplied by before that.
    """
    plan = make_plan(hidden_NH, weight_VH, chunk_rows, softcap, scale)
    wanted = torch.is_grad_enabled()  # inside the function it never is
    with torch.autocast(hidden_NH.device.type, enabled=False):
        return HeadLoss.apply(hidden_NH, weight_VH, bias_V, targets_N, plan, wanted)  # type: ignore[no-untyped-call]


@torch.no_grad()
def score_targets(
    hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, targets_N: Tensor,
    *, chunk_rows: int | None = None, softcap: float | None = None, scale: float = 1.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The loss that `head_loss` gives, and at how many positions the likeliest token is the target; no gradients."""
    plan = make_plan(hidden_NH, weight_VH, chunk_rows, softcap, scale)
    loss = hidden_NH.new_zeros((), dtype=plan.sum_dtype)
    correct = targets_N.new_zeros(())
    with torch.autocast(hidden_NH.device.type, enabled=False):
        for rows, product_RV in iterate_products(hidden_NH.to(plan.dtype), weight_VH.to(plan.dtype), plan):
            if suits_kernel(product_RV, bias_V, softcap):
                losses_R, likeliest_R = take_losses(product_RV, targets_N[rows], scale, counts=True)
                loss += losses_R.sum()
                correct += (likeliest_R == targets_N[rows]).sum()
                continue
            for _, logits_BV, targets_B1 in iterate_blocks(product_RV, bias_V, targets_N[rows], plan):
                loss -= logits_BV.log_softmax(1).gather(1, targets_B1).sum()
                correct += (logits_BV.argmax(1, keepdim=True) == targets_B1).sum()
    return loss, correct


class HeadLoss(torch.autograd.Function):
    """Loss and gradients in one pass over the chunks; the gradients then wait for the factor that comes in."""

    @staticmethod
    def forward(
        ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, targets_N: Tensor,
        plan: Plan, wanted: bool,
    ) -> Tensor:  # fmt: skip
        inputs = zip((hidden_NH, weight_VH, bias_V), ctx.needs_input_grad, strict=False)
        needing = [each if wanted and needed else None for each, needed in inputs]
        sums = [None if each is None else torch.zeros_like(each, dtype=plan.sum_dtype) for each in needing]
        ctx.scale = plan.scale
        ctx.save_for_backward(*sums)
        return sum_chunks(hidden_NH.to(plan.dtype), weight_VH.to(plan.dtype), bias_V, targets_N, plan, sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        factor = gradients[0] * ctx.scale
        # Autograd rounds each to the dtype of its tensor.
        return *(None if each is None else each.mul_(factor) for each in ctx.saved_tensors), None, None, None


def make_plan(hidden_NH: Tensor, weight_VH: Tensor, limit: int | None, softcap: float | None, scale: float) -> Plan:
    """The plan for these tensors: products in the dtype that autocast would take, chunks of nearly one size."""
    dtype = find_compute_dtype(hidden_NH)
    positions = len(hidden_NH)
    limit = limit or max(1, CHUNK_BYTES // (len(weight_VH) * dtype.itemsize))
    rows = math.ceil(positions / math.ceil(positions / limit)) if positions else 1
    # Elsewhere a block is a chunk, since launches cost more than caches save.
    block_bytes = BLOCK_BYTES if hidden_NH.device.type == "cpu" else CHUNK_BYTES
    return Plan(dtype, torch.promote_types(dtype, torch.float32), rows, block_bytes, softcap, scale)


def sum_chunks(
    hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, targets_N: Tensor,
    plan: Plan, sums: list[Tensor | None],
) -> Tensor:  # fmt: skip
    """The loss; the gradients of hidden states, weight and bias, but for the factor `scale`, are added to `sums`."""
    loss = hidden_NH.new_zeros((), dtype=plan.sum_dtype)
    hidden_sum_NH, weight_sum_VH, _ = sums
    for rows, product_RV in iterate_products(hidden_NH, weight_VH, plan):
        if suits_kernel(product_RV, bias_V, plan.softcap):
            is_wanted = any(each is not None for each in sums)
            loss += take_losses(product_RV, targets_N[rows], plan.scale, is_gradient_wanted=is_wanted)[0].sum()
        else:
            loss += sum_blocks(product_RV, bias_V, targets_N[rows], plan, sums)
        if hidden_sum_NH is not None:
            hidden_sum_NH[rows] = product_RV @ weight_VH
        if weight_sum_VH is not None:
            add_products(weight_sum_VH, product_RV, hidden_NH[rows], plan)
    return loss


def sum_blocks(
    product_RV: Tensor, bias_V: Tensor | None, targets_R: Tensor, plan: Plan, sums: list[Tensor | None]
) -> Tensor:
    """The loss of a chunk; its products become the gradient of the logits, if one of the sums is wanted."""
    loss, bias_sum_V = product_RV.new_zeros((), dtype=plan.sum_dtype), sums[2]
    for block_BV, logits_BV, targets_B1 in iterate_blocks(product_RV, bias_V, targets_R, plan):
        log_p_BV = logits_BV.log_softmax(1)
        loss -= log_p_BV.gather(1, targets_B1).sum()
        if any(each is not None for each in sums):
            grad_BV = differentiate(log_p_BV, logits_BV, targets_B1, plan.softcap)
            block_BV.copy_(grad_BV)
            if bias_sum_V is not None:
                bias_sum_V += grad_BV.sum(0)
    return loss


def iterate_products(hidden_NH: Tensor, weight_VH: Tensor, plan: Plan) -> Iterator[tuple[slice, Tensor]]:
    """Rows and their products with the weight, in memory that the next chunk takes over."""
    memory_RV = hidden_NH.new_empty(plan.chunk_rows, len(weight_VH))
    for start in range(0, len(hidden_NH), plan.chunk_rows):
        rows = slice(start, min(start + plan.chunk_rows, len(hidden_NH)))
        yield rows, torch.mm(hidden_NH[rows], weight_VH.T, out=memory_RV[: rows.stop - start])


def iterate_blocks(
    product_RV: Tensor, bias_V: Tensor | None, targets_R: Tensor, plan: Plan
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Products of a few rows, their logits and targets. Where the dtype is the same, the logits lie in the products."""
    size = plan.count_rows(product_RV)
    for block_BV, targets_B1 in zip(torch.split(product_RV, size), torch.split(targets_R[:, None], size), strict=True):
        logits_BV = block_BV.to(plan.sum_dtype)
        if bias_V is not None:
            logits_BV += bias_V
        if plan.scale != 1.0:
            logits_BV *= plan.scale
        if plan.softcap is not None:
            logits_BV.div_(plan.softcap).tanh_().mul_(plan.softcap)
        yield block_BV, logits_BV, targets_B1


def differentiate(log_p_BV: Tensor, logits_BV: Tensor, targets_B1: Tensor, softcap: float | None) -> Tensor:
    """The loss's gradient with respect to the logits before the cap, in the memory of `log_p_BV`."""
    grad_BV = log_p_BV.exp_()
    grad_BV.scatter_add_(1, targets_B1, grad_BV.new_full(targets_B1.shape, -1.0))
    return grad_BV if softcap is None else grad_BV.addcmul_(grad_BV, (logits_BV / softcap).square_(), value=-1.0)


def add_products(sum_VH: Tensor, grad_RV: Tensor, hidden_RH: Tensor, plan: Plan) -> None:
    """Adds grad^T hidden, some tokens at a time: on a CPU that takes two fifths of the time of all at once."""
    size = plan.count_rows(sum_VH)
    for sum_TH, grad_RT in zip(torch.split(sum_VH, size), torch.split(grad_RV, size, dim=1), strict=True):
        sum_TH += grad_RT.T @ hidden_RH
