"""Features of texts from a frozen model: one pass over each distinct row, every pooling of interest at once.

Rows are sorted by length, so there is no padding to speak of; no gradients are kept; products are bf16 where the
hardware computes in it. Letters: N rows, B rows of a batch, T tokens, H width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from afina.data.batches import Indices, collate_rows, order_evaluation_batches
from afina.data.encode import TokenArrays
from afina.errors import ModelError, describe_rows
from afina.kernels.lanes import PerThread
from afina.models.batched import compute_batches
from afina.models.completeness import shorten
from afina.models.finite import COPY_MODEL, find_odd_weights
from afina.models.heads import POOLINGS, find_head

Floats = npt.NDArray[np.float32]
# Their classifiers run the backbone in another way than it runs by itself: all tokens look at the first one.
READ_OTHERWISE = ("longformer",)


def list_poolings(architecture: str, model_type: str = "") -> tuple[str, ...]:
    """The poolings that are worth comparing for an `encoder` or a `decoder`, `own` first.

    `own` is what the architecture's own last layer reads: a pooler's output for BERT, the first token through a dense
    layer for RoBERTa, the last token for decoders.
    """
    if model_type in READ_OTHERWISE:
        return ("own",)
    return ("own", "mean") if architecture == "decoder" else ("own", "first", "mean")


def extract_features(
    model: Any,
    tokens: TokenArrays,
    rows: Indices,
    poolings: tuple[str, ...],
    *,
    pad_id: int,
    tokens_per_batch: int,
    device: str,
    precision: str,
    on_batch: Callable[[int], None] = lambda count: None,
) -> dict[str, Floats]:
    """The features of `rows` for each pooling, shape (len(rows), H), in the order of `rows`.

    Args:
        on_batch: called with the number of rows done after each batch.

    Raises:
        ResourceError: if memory is too small for a single row.
    """
    model.eval().to(device)
    found: dict[str, Floats] = {}
    batches = order_evaluation_batches(tokens.lengths[rows], tokens_per_batch)
    with capture_hidden(model) as captured:

        def compute(places: Indices) -> list[Floats]:
            batch = {k: v.to(device) for k, v in collate_rows(tokens, rows[places], pad_id).items()}
            model(**batch)
            return [pool(captured, batch, name, pad_id).float().cpu().numpy() for name in poolings]

        for places, pooled in compute_batches(compute, batches, model, device=device, precision=precision):
            for name, pooled_BH in zip(poolings, pooled, strict=True):
                if name not in found:
                    found[name] = np.empty((len(rows), pooled_BH.shape[1]), np.float32)
                found[name][places] = pooled_BH
            on_batch(len(places))
    return found


def check_finite(features: Mapping[str, Floats], row_numbers_N: Indices, part: str, model: Any) -> None:
    """Refuse features that are not finite numbers, each of shape (N, H): no head can be solved on them.

    Args:
        row_numbers_N: the rows of the user's file that the features belong to.
        part: `train`, `validation` or `test`, for the message.
        model: the one that gave them; its weights are looked at where they are to blame.

    Raises:
        ModelError: naming the rows, and the weights that are to blame if there are any.
    """
    is_finite_N = np.logical_and.reduce([np.isfinite(array).all(axis=1) for array in features.values()])
    if is_finite_N.all():
        return
    rows = np.unique(row_numbers_N[~is_finite_N]).tolist()
    odd = find_odd_weights(model)
    blamed = f"; NaN or infinities are in {shorten(odd)}" if odd else ""
    raise ModelError(
        "the model gives features that are not finite numbers",
        found=f"{describe_rows(rows)} (part {part}){blamed}",
        expected="finite numbers for every row",
        remedy=f"{COPY_MODEL}; if it is a few rows only, look at these, or --set training.precision=fp32",
    )


def pool(captured: PerThread, batch: dict[str, torch.Tensor], pooling: str, pad_id: int) -> torch.Tensor:
    """One pooling of a batch that has just passed, shape (B, H)."""
    if pooling != "own":
        return POOLINGS[pooling](captured["hidden"], batch["attention_mask"])
    return pool_own(captured["own"], batch["input_ids"], pad_id)


def pool_own(own: torch.Tensor, ids_BT: torch.Tensor, pad_id: int) -> torch.Tensor:
    """What the head reads of each row, shape (B, H), from its input of shape (B, H) or (B, T, H)."""
    if own.dim() == 2:
        return own
    # Decoders apply their head to every token and take the logits of the last one that isn't padding. They look at the
    # ids, not at the mask, so where rows end in the very token that pads, it is the one before it.
    places_T = torch.arange(own.shape[1], device=own.device)
    last_B = (places_T * (ids_BT != pad_id)).argmax(dim=1)
    return own[torch.arange(len(own), device=own.device), last_B]


@contextlib.contextmanager
def capture_hidden(model: Any) -> Iterator[PerThread]:
    """A mapping that holds, after each forward of a thread, the backbone's `hidden` states and the head's `own` input:
    what each thread sees is of its own forward."""

    def keep_hidden(module: Any, args: Any, output: Any) -> None:
        captured["hidden"] = output[0]

    with capture_own(model) as captured:
        hook = model.base_model.register_forward_hook(keep_hidden)
        try:
            yield captured
        finally:
            hook.remove()


@contextlib.contextmanager
def capture_own(model: Any) -> Iterator[PerThread]:
    """A mapping that holds, after each forward of a thread, the head's input as `own`."""
    captured = PerThread()

    def keep_own(module: Any, args: Any) -> None:
        captured["own"] = args[0]

    hook = find_head(model).register_forward_pre_hook(keep_own)
    try:
        yield captured
    finally:
        hook.remove()


def number_distinct_rows(tokens: TokenArrays) -> tuple[Indices, Indices, npt.NDArray[np.void]]:
    """One row for each distinct sequence of tokens, for each row its place among these, and the sequences' hashes.

    Returns:
        representatives of shape (D,), places of shape (N,), hashes of shape (D,), 16 bytes each.
    """
    import hashlib

    hashes = np.empty(len(tokens), dtype="V16")
    for i in range(len(tokens)):
        digest = hashlib.blake2b(tokens.row(i).tobytes(), digest_size=16)
        if tokens.type_ids is not None:
            digest.update(tokens.type_ids[tokens.offsets[i] : tokens.offsets[i + 1]].tobytes())
        hashes[i] = np.void(digest.digest())
    distinct, representatives, places = np.unique(hashes.view("S16"), return_index=True, return_inverse=True)
    return representatives.astype(np.int64), places.astype(np.int64), distinct.view("V16")
