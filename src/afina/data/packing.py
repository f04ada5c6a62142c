"""Rows of tokens in batches for a language model: padded side by side, or packed one after the other.

Packed rows see nothing of each other: the attention mask is block-diagonal and positions start afresh with each row.
Letters: B sequences of a batch, T tokens, K targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from afina.data.batches import pad_length
from afina.data.encode_conversations import TrainedRows

if TYPE_CHECKING:
    import torch

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenBatch:
    """A batch and what it is to predict."""

    inputs: dict[str, torch.Tensor]
    """For the model: `input_ids`, `attention_mask`, and for packed rows `position_ids`."""
    places_K: torch.Tensor
    """Places in the flattened (B, T) from which a learned token is predicted."""
    targets_K: torch.Tensor
    """These tokens."""

    def to(self, device: torch.device) -> TokenBatch:
        """The batch on a device."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return TokenBatch(inputs, self.places_K.to(device), self.targets_K.to(device))


def pack_rows(lengths_N: Indices, capacity: int) -> list[Indices]:
    """Rows of each sequence of at most `capacity` tokens: the longest row first, each where it leaves least room.

    Best-fit decreasing needs at most 11/9 of the fewest sequences (Johnson 1974). Rooms are kept in buckets by size,
    and which buckets hold any in the bits of one number, whose lowest one is found without looking at each.
    """
    buckets: list[list[int]] = [[] for _ in range(capacity + 1)]
    filled = 0
    packs: list[list[int]] = []
    for row in np.argsort(-lengths_N, kind="stable").tolist():
        length = int(lengths_N[row])
        fitting = filled >> length
        if not fitting:
            packs.append([row])
            place, left = len(packs) - 1, capacity - length
        else:
            room = length + (fitting & -fitting).bit_length() - 1
            place = buckets[room].pop()
            if not buckets[room]:
                filled ^= 1 << room
            packs[place].append(row)
            left = room - length
        buckets[left].append(place)
        filled |= 1 << left
    return [np.asarray(sorted(rows), np.int64) for rows in packs]


def share_sequences(rows_a_pass: int, passes: int, rows: int, sequences: int) -> tuple[int, int]:
    """Sequences of a pass, and passes of an optimizer step, that hold about as many rows as are asked for.

    A step is that of rows alone, then, and so is the number of steps: several times as many rows a step would learn
    less from as many epochs.
    """
    share = sequences / rows
    a_step = max(1, round(rows_a_pass * passes * share))
    a_pass = min(a_step, max(1, round(rows_a_pass * share)))
    return a_pass, max(1, round(a_step / a_pass))


def collate_padded(data: TrainedRows, rows: Indices, pad_id: int) -> TokenBatch:
    """Each row a sequence, filled up on the right to `pad_length` of the longest one."""
    return collate(data, [np.asarray([row]) for row in rows], pad_id, is_packed=False)


def collate_packed(data: TrainedRows, packs: Sequence[Indices], pad_id: int) -> TokenBatch:
    """Several rows a sequence, kept apart by mask and positions."""
    return collate(data, packs, pad_id, is_packed=True)


def collate(data: TrainedRows, sequences: Sequence[Indices], pad_id: int, *, is_packed: bool) -> TokenBatch:
    """The tensors of a batch, each sequence the rows named."""
    import torch

    lengths = data.tokens.lengths
    width = max(int(lengths[rows].sum()) for rows in sequences)
    if not is_packed:
        width = pad_length(width, data.tokens.longest)
    shape = (len(sequences), width)
    ids_BT, segments_BT = np.full(shape, pad_id, np.int64), np.full(shape, -1, np.int64)
    positions_BT, marks_BT = np.zeros(shape, np.int64), np.zeros(shape, bool)
    for b, rows in enumerate(sequences):
        start = 0
        for segment, row in enumerate(rows):
            span = slice(start, start + int(lengths[row]))
            ids_BT[b, span], marks_BT[b, span] = data.tokens.row(int(row)), data.row_loss_mask(int(row))
            segments_BT[b, span], positions_BT[b, span] = segment, np.arange(lengths[row])
            start = span.stop
    # The first token of a row is never marked, so what predicts a marked token is the one before it, in its own row.
    places_K = np.flatnonzero(marks_BT) - 1
    inputs = {"input_ids": torch.from_numpy(ids_BT)}
    if is_packed:
        inputs["attention_mask"] = separate(torch.from_numpy(segments_BT))
        inputs["position_ids"] = torch.from_numpy(positions_BT)
    else:
        inputs["attention_mask"] = torch.from_numpy((segments_BT >= 0).astype(np.int64))
    return TokenBatch(inputs, torch.from_numpy(places_K), torch.from_numpy(ids_BT.ravel()[places_K + 1]))


def separate(segments_BT: torch.Tensor) -> torch.Tensor:
    """True where a token may look: at itself and at earlier ones of its segment, shape (B, 1, T, T)."""
    import torch

    same_BTT = segments_BT[:, :, None] == segments_BT[:, None, :]
    causal_TT = torch.ones(same_BTT.shape[1:], dtype=torch.bool).tril()
    return (same_BTT & causal_TT)[:, None]
