"""Which rows of a model's table of token vectors a training moves; the others only decay (`kernels/embedding.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from afina.kernels.embedding import SeenRows

# Above this share of the table there is nothing to gain.
MOST_SEEN = 0.9


@contextmanager
def train_seen_rows(
    model: nn.Module, ids: npt.NDArray[np.int32], pad_id: int, *, wanted: bool = True
) -> Iterator[int | None]:
    """A context in which only those rows of the table are trained that `ids` or the padding name.

    Afterwards the model has an ordinary table again, with what was learned in it.

    Args:
        ids: all tokens of the training rows, in one flat array.

        wanted: False leaves the model as it is.

    Gives the number of rows that are trained, or None where the whole table is: it doesn't move, it is the head's too,
    it is of an unusual make, or nearly all of its rows are named.
    """
    table = find_table(model) if wanted else None
    seen = None if table is None else find_seen(table, ids, pad_id)
    if table is None or seen is None:
        yield None
        return
    owner: Any = model
    stand_in = SeenRows(table, torch.from_numpy(seen))
    owner.set_input_embeddings(stand_in)
    try:
        yield len(seen)
    finally:
        owner.set_input_embeddings(stand_in.settle())


def find_table(model: Any) -> nn.Embedding | None:
    """The table of token vectors, if all it does is to be looked up in and nothing else shares its weight."""
    get = getattr(model, "get_input_embeddings", None)
    table = get() if get is not None else None
    if type(table) is not nn.Embedding or not table.weight.requires_grad:
        return None
    owners = sum(p is table.weight for _, p in model.named_parameters(remove_duplicate=False))
    is_plain = table.max_norm is None and not table.scale_grad_by_freq and not table.sparse
    return table if is_plain and owners == 1 else None


def find_seen(table: nn.Embedding, ids: npt.NDArray[np.int32], pad_id: int) -> npt.NDArray[np.int64] | None:
    """The numbers of the rows that are named, rising; None if they are nearly all of the table."""
    is_seen = np.zeros(table.num_embeddings, bool)
    is_seen[ids] = True
    is_seen[pad_id] = True
    if table.padding_idx is not None:
        is_seen[table.padding_idx] = True
    seen = np.flatnonzero(is_seen)
    return seen if is_worth_it(table, len(seen)) else None


def is_worth_it(table: nn.Embedding, seen: int) -> bool:
    """Whether so few rows are named that training them alone saves something."""
    return seen <= MOST_SEEN * table.num_embeddings
