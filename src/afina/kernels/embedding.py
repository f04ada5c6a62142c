"""A table of token vectors of which only the rows that the training texts name are trained: what AdamW does to the
others is known beforehand.

A row whose token never comes up has no gradient and no moments, so that each step only multiplies it by
1 - rate * decay, and all such rows by the same number. One number is kept for all of them. The gradient, both moments
and the steps are then of as many rows as there are different tokens in the training texts: a few thousand of BERT's
30,522, and of a multilingual model's 250,000. Equal to training the whole table up to rounding.

Letters: V rows of the table, U of them seen, D their width, B and T rows and tokens of a batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Lookup(torch.autograd.Function):
    """Rows of a table. The factor of the rows that are not in it takes a gradient of 0: its only change is decay."""

    @staticmethod
    def forward(ctx: Any, rows_UD: Tensor, factor: Tensor, places_BT: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(places_BT, factor)
        ctx.sizes = len(rows_UD), padding
        return functional.embedding(places_BT, rows_UD)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        places_BT, factor = ctx.saved_tensors
        rows, padding = ctx.sizes
        grad_UD = torch.ops.aten.embedding_dense_backward(gradients[0], places_BT, rows, padding, False)
        return grad_UD, torch.zeros_like(factor), None, None


class SeenRows(nn.Module):
    """Stands in for `table` while it is trained; `settle` gives the table as it then is.

    Args:
        table: its weight stays as it was until then.
        seen_U: numbers of the rows to train, rising.
    """

    places_V: Tensor

    def __init__(self, table: nn.Embedding, seen_U: Tensor) -> None:
        super().__init__()
        self.table = table.requires_grad_(False)
        self.rows_UD = nn.Parameter(table.weight[seen_U].clone())
        # Two dimensions, since weights of fewer aren't decayed (`training/optim.py`).
        self.factor = nn.Parameter(table.weight.new_ones(1, 1))
        places_V = torch.full((table.num_embeddings,), -1)
        places_V[seen_U] = torch.arange(len(seen_U))
        self.padding = -1 if table.padding_idx is None else int(places_V[table.padding_idx])
        self.register_buffer("places_V", places_V.to(table.weight.device), persistent=False)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Token vectors, shape (B, T, D). With a gradient, every token must be one of the seen ones."""
        places_BT = self.places_V[ids_BT]
        if torch.is_grad_enabled():
            return Lookup.apply(self.rows_UD, self.factor, places_BT, self.padding)  # type: ignore[no-untyped-call]
        is_seen_BT1 = (places_BT >= 0)[..., None]
        seen_BTD = functional.embedding(places_BT.clamp(min=0), self.rows_UD)
        return torch.where(is_seen_BT1, seen_BTD, functional.embedding(ids_BT, self.table.weight) * self.factor)

    @property
    def weight(self) -> Tensor:
        """The table as it now is, shape (V, D), for models that ask for more than rows of it, if only its dtype."""
        seen_VD = functional.embedding(self.places_V.clamp(min=0), self.rows_UD)
        return torch.where((self.places_V >= 0)[:, None], seen_VD, self.table.weight * self.factor.detach())

    def settle(self) -> nn.Embedding:
        """The table with what was learned in it."""
        with torch.no_grad():
            self.table.weight.mul_(self.factor)
            self.table.weight[self.places_V >= 0] = self.rows_UD  # both in the order of the table
        return self.table.requires_grad_(True)
