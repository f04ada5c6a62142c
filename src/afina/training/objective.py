"""What the loop minimises: losses of training rows, their weights, and the scores of the validation part.

The loop knows rows by their places alone. What a row is, which loss it has and what it counts in the mean is said here,
so that a label a row and a token a position go through the same steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch

from afina.data.batches import Indices, collate_rows
from afina.data.encoded import EncodedPart
from afina.errors import TrainingError, describe_rows
from afina.tasks.base import Task, TaskState
from afina.training.inference import Inference, predict_logits
from afina.training.precision import precision_of

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn


class Objective(Protocol):
    """What the loop sees of a task and its rows."""

    chooses_best: ClassVar[bool]
    """Whether the scores of the validation part choose among the evaluations; else the last one is the result."""
    is_sum: ClassVar[bool]
    """Whether the loss of several rows is the sum of theirs, so that they may be computed apart."""

    @property
    def lengths(self) -> Indices:
        """Tokens of each training row, shape (N,): rows of like length share a batch."""
        ...

    def weigh(self, rows: Indices) -> float:
        """What these rows count in a mean loss."""
        ...

    def sum_losses(self, model: nn.Module, rows: Indices, accelerator: Accelerator) -> torch.Tensor:
        """The rows' losses, each times its weight, in one number with a gradient."""
        ...

    def evaluate(self, model: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """Scores of the validation part, `loss` among them."""
        ...

    def rank(self, scores: Mapping[str, float]) -> float:
        """One number to choose a checkpoint by, the larger the better."""
        ...

    def name_rows(self, rows: Indices) -> Sequence[int]:
        """Numbers of these rows in the user's file."""
        ...


@dataclass(frozen=True)
class LabelledRows:
    """The objective of tasks with a label for each row. See `Objective`."""

    task: Task
    state: TaskState
    train: EncodedPart
    validation: EncodedPart
    pad_id: int
    eval_tokens_per_batch: int
    chooses_best: ClassVar[bool] = True
    is_sum: ClassVar[bool] = True

    @cached_property
    def lengths(self) -> Indices:
        return self.train.tokens.lengths  # made anew each time, and each step asks

    def weigh(self, rows: Indices) -> float:
        return float(self.task.row_weights(self.train.labels[rows], self.state).sum())

    def sum_losses(self, model: nn.Module, rows: Indices, accelerator: Accelerator) -> torch.Tensor:
        device = accelerator.device
        batch = {k: v.to(device) for k, v in collate_rows(self.train.tokens, rows, self.pad_id).items()}
        labels = torch.from_numpy(self.train.labels[rows]).to(device)
        with accelerator.autocast():
            logits_BC = model(**batch).logits
        return self.task.losses(logits_BC, labels, self.state).sum()

    def evaluate(self, model: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        part = self.validation
        device, precision = accelerator.device.type, precision_of(accelerator)
        logits_NC = predict_logits(
            model, part.tokens, Inference(self.pad_id, self.eval_tokens_per_batch, device, precision)
        )
        check_finite(logits_NC.sum(axis=1), part.row_numbers)
        scores = self.task.score(self.task.rescale(logits_NC, self.state), part.labels, self.state)
        if "loss" in scores:  # as the report has it, whatever weights the classes have in training
            return scores
        losses_N = self.task.losses(torch.from_numpy(logits_NC), torch.from_numpy(part.labels), self.state)
        return {**scores, "loss": float(losses_N.double().mean())}

    def rank(self, scores: Mapping[str, float]) -> float:
        return self.task.rank(scores)

    def name_rows(self, rows: Indices) -> Sequence[int]:
        return [int(number) for number in self.train.row_numbers[rows]]


def check_finite(values_N: npt.NDArray[np.floating], row_numbers_N: Indices) -> None:
    """Refuse to score a model that doesn't give finite numbers for all validation rows: no mean may hide them.

    Raises:
        TrainingError: naming the rows; earlier checkpoints stay.
    """
    wrong = np.unique(row_numbers_N[~np.isfinite(values_N)])
    if len(wrong):
        raise TrainingError(
            "the model gives no finite number for some of the validation rows",
            found=f"validation {describe_rows(wrong.tolist())}",
            remedy="a smaller --learning-rate, or --set training.precision=fp32; the rows may hold odd text",
        )
