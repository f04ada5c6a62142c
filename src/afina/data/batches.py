"""Which rows go together, in which order, and the tensors they become.

The order is a pure function of the lengths, the batch size, the seed and the epoch: a run that was killed goes on
with exactly the batches it would have had, and no state of a sampler needs saving. Letters: N rows, B rows of a
batch, T tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from afina.data.encode import TokenArrays

if TYPE_CHECKING:
    import torch

Indices = npt.NDArray[np.int64]

# Lengths of batches in each range from a power of two to the next one.
LENGTHS_IN_OCTAVE = 16
# Rows are sorted by length inside chunks of so many batches: little padding, and still a new mixture each epoch.
BATCHES_PER_CHUNK = 50
# Of one forward pass without gradients, padding included, by device. Activations of more tokens than this fall out of
# a CPU's caches (a fifth slower); a GPU wants many at once.
TOKENS_AT_ONCE = {"cpu": 2048, "cuda": 32_768, "mps": 8192}
# That a language model answers at a time.
PROMPTS_AT_ONCE = 8


def order_training_batches(lengths_N: Indices, batch_size: int, seed: int, epoch: int) -> list[Indices]:
    """The batches of one epoch: rows shuffled, grouped by length inside chunks, the batches shuffled again."""
    random = np.random.Generator(np.random.PCG64([seed, epoch]))
    shuffled = random.permutation(len(lengths_N))
    chunk = batch_size * BATCHES_PER_CHUNK
    batches: list[Indices] = []
    for start in range(0, len(shuffled), chunk):
        rows = shuffled[start : start + chunk]
        rows = rows[np.argsort(-lengths_N[rows], kind="stable")]
        batches.extend(rows[i : i + batch_size] for i in range(0, len(rows), batch_size))
    return [batches[i] for i in random.permutation(len(batches))]


def group_windows(batches: list[Indices], accumulation_steps: int) -> list[list[Indices]]:
    """The batches of each optimizer step; the last window may hold fewer."""
    return [batches[i : i + accumulation_steps] for i in range(0, len(batches), accumulation_steps)]


def pad_length(longest: int, limit: int) -> int:
    """Tokens that each row of a batch is padded to, from its longest row; `limit` is the longest row of the data, since
    a model may have no room for more.

    Few lengths are met again and again. Each new one costs a CPU's products a compilation, and leaves
    pieces of memory behind that the next one doesn't fit; padding costs 2 % of the tokens on average.
    """
    step = 2 ** (longest.bit_length() - 1) // LENGTHS_IN_OCTAVE
    return longest if step < 2 else min(limit, -(-longest // step) * step)


def order_evaluation_batches(lengths_N: Indices, tokens_per_batch: int) -> list[Indices]:
    """Batches of rows of nearly equal length, each of at most `tokens_per_batch` tokens, padded (or of one row)."""
    limit = int(lengths_N.max(initial=0))
    order = np.argsort(-lengths_N, kind="stable")
    batches: list[Indices] = []
    start = 0
    while start < len(order):
        rows = max(1, tokens_per_batch // max(1, pad_length(int(lengths_N[order[start]]), limit)))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def collate_rows(tokens: TokenArrays, rows: Indices, pad_id: int) -> dict[str, torch.Tensor]:
    """The tensors of a batch, each of shape (B, T), padded on the right to `pad_length` of its longest row.

    Keys: `input_ids`, `attention_mask`, and `token_type_ids` where the model reads them.
    """
    import torch

    lengths = tokens.offsets[rows + 1] - tokens.offsets[rows]
    shape = (len(rows), pad_length(int(lengths.max()), tokens.longest))
    ids_BT = np.full(shape, pad_id, np.int64)
    types_BT = np.zeros(shape, np.int64) if tokens.type_ids is not None else None
    for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        start = tokens.offsets[row]
        ids_BT[place, :length] = tokens.ids[start : start + length]
        if types_BT is not None and tokens.type_ids is not None:
            types_BT[place, :length] = tokens.type_ids[start : start + length]
    mask_BT = np.arange(shape[1]) < lengths[:, None]
    batch = {
        "input_ids": torch.from_numpy(ids_BT),
        "attention_mask": torch.from_numpy(mask_BT.astype(np.int64)),
    }
    if types_BT is not None:
        batch["token_type_ids"] = torch.from_numpy(types_BT)
    return batch
