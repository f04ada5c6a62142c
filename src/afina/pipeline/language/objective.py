"""The loss that the training of a language model minimises: taken apart and packed as far as that is proven to be the
plain one, on the user's own model and rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from afina.config.reason import Reason
from afina.config.run import TrainingConfig
from afina.data.packing import Indices, TokenBatch, collate_packed, collate_padded, pack_rows, share_sequences
from afina.models.language_head import SplitLanguageModel, compare_with_forward, split_language_model
from afina.pipeline.language.prepare import PreparedLanguage, expects_packing
from afina.pipeline.narrator import Narrator
from afina.training.next_tokens import NextTokens
from afina.training.precision import precision_of
from afina.wording import count

ROWS_TO_COMPARE = 4
# Relative to the loss. The halves round where the whole doesn't, in bf16 by a part in a hundred.
HALVES_TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
PACKED_TOLERANCE = {"fp32": 1e-5, "bf16": 1e-2}
# Of a hidden state's norm. Attention with a mask of blocks gives 0; experts round other numbers of tokens otherwise.
LEAK_TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}


def make_objective(prepared: PreparedLanguage, model: Any, accelerator: Accelerator, narrator: Narrator) -> NextTokens:
    """The loss over the model's halves, and over packed rows, each where it is proven to be the plain one."""
    batch_tokens = int(prepared.config.evaluation.eval_tokens_per_batch)
    objective = NextTokens(prepared.parts["train"], prepared.parts["validation"], prepared.pad_id, batch_tokens)
    objective = take_apart(objective, model, accelerator, narrator.note)
    limit = find_position_limit(model.config.get_text_config(), int(objective.train.tokens.lengths.max()))
    if limit:
        narrator.note(
            f"a row of more than {limit:,} tokens changes the model's positions for all rows in its batch, so losses"
            f" depend on which rows share one; --max-seq-length {limit} prevents it"
        )
    return choose_packing(prepared, model, objective, accelerator, narrator)


def take_apart(
    objective: NextTokens, model: nn.Module, accelerator: Accelerator, note: Callable[[str], None]
) -> NextTokens:
    """The objective over the model's halves, where these are the model on a few of its training rows; else over the
    whole."""
    model.eval()
    head, data = split_language_model(model), objective.train
    if head.linear is None:
        return replace(objective, uses_full_forward=True)
    rows = np.arange(min(ROWS_TO_COMPARE, len(data)))
    batch = collate_padded(data, rows, objective.pad_id).to(accelerator.device)
    with accelerator.autocast():
        halves, whole = compare_with_forward(model, head, batch)
    if abs(halves - whole) <= HALVES_TOLERANCE[precision_of(accelerator)] * max(1.0, abs(whole)):
        return objective
    note(f"the head is not taken apart: the loss would be {halves:.5f} instead of {whole:.5f}")
    return replace(objective, uses_full_forward=True)


def choose_packing(
    prepared: PreparedLanguage, model: nn.Module, objective: NextTokens, accelerator: Accelerator, narrator: Narrator
) -> NextTokens:
    """The objective with rows packed, where that is wanted and equal to rows alone."""
    wanted = prepared.config.data.packing
    name = "data.packing"
    if not expects_packing(prepared.config, prepared.device):
        why = "as given" if wanted is False else "on a CPU rows of like length share a batch, with little padding"
        narrator.explain(Reason(name, False, why))
        return objective
    obstacle = find_obstacle(prepared, model, objective, accelerator)
    if obstacle:
        narrator.explain(Reason(name, False, obstacle))
        return objective
    packs = pack_rows(objective.train.tokens.lengths, int(prepared.config.model.max_seq_length))
    packed = replace(objective, packs=packs)
    steps = batch_sequences(prepared.config.training, packed)
    narrator.explain(Reason(name, True, (
        f"{len(objective.train):,} rows in {count(len(packs), 'sequence')}, proven equal to rows alone;"
        f" {steps.per_device_train_batch_size * steps.gradient_accumulation_steps:,} of them a step, which hold about"
        f" the {count_step_rows(prepared.config.training):,} rows that are asked for"
    )))  # fmt: skip
    return packed


def batch_sequences(training: TrainingConfig, objective: NextTokens) -> TrainingConfig:
    """The settings of the loop: where rows are packed its units are sequences, of which fewer make up a step."""
    if objective.packs is None:
        return training
    a_pass, passes = share_sequences(
        training.per_device_train_batch_size, training.gradient_accumulation_steps, len(objective.train),
        len(objective.packs),
    )  # fmt: skip
    return training.model_copy(update={"per_device_train_batch_size": a_pass, "gradient_accumulation_steps": passes})


def count_step_rows(training: TrainingConfig) -> int:
    """Rows of an optimizer step."""
    return training.per_device_train_batch_size * training.gradient_accumulation_steps


def find_obstacle(prepared: PreparedLanguage, model: Any, objective: NextTokens, accelerator: Accelerator) -> str:
    """Why rows can't be packed for this model; an empty string if they can."""
    config = model.config.get_text_config()
    longest = int(objective.train.tokens.lengths.max())
    window = getattr(config, "sliding_window", None)
    if window and longest > window:
        return f"the model looks back {window} tokens only, and the longest row has {longest}"
    chunk = getattr(config, "attention_chunk_size", None)
    if chunk and longest > chunk:
        return f"the model attends within chunks of {chunk} tokens, and the longest row has {longest}"
    if find_position_limit(config, longest):
        return "the model's positions depend on the longest row of a batch"
    if not has_attention(config):
        return "the model has no attention, whose mask would keep rows apart"
    if config._attn_implementation not in ("sdpa", "afina"):
        return f"the model's attention ({config._attn_implementation}) takes no mask of blocks"
    data, pad_id = objective.train, prepared.pad_id
    rows = choose_compared(data.tokens.lengths)
    head = objective.split_model(model)
    with torch.no_grad(), accelerator.autocast():
        try:
            packed_batch = collate_packed(data, [rows], pad_id).to(accelerator.device)
            packed = float(head.sum_losses(packed_batch))
            leak = measure_leak(head, packed_batch, int(data.tokens.lengths[rows[0]]))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            return f"the model refuses packed rows ({type(error).__name__})"
        alone = float(head.sum_losses(collate_padded(data, rows, pad_id).to(accelerator.device)))
    if not abs(packed - alone) <= PACKED_TOLERANCE[prepared.setup.precision] * max(1.0, abs(alone)):
        return f"packed rows would have a loss of {packed:.4f} instead of {alone:.4f}"
    if not leak <= LEAK_TOLERANCE[prepared.setup.precision]:
        return f"packed rows would see each other: other tokens in the first one move what follows by {leak:.0%}"
    return ""


def choose_compared(lengths_N: Indices) -> Indices:
    """Rows that are compared packed and alone: the first ones, and the longest, which shows what only long ones do."""
    rows = np.arange(min(ROWS_TO_COMPARE, len(lengths_N)))
    longest = int(np.argmax(lengths_N))
    return rows if longest in rows else np.append(rows[:-1], longest)


def find_position_limit(config: Any, longest: int) -> int | None:
    """Tokens from which on a row changes the positions of all rows in its batch, where one does: transformers chooses
    the frequencies of LongRoPE and dynamic scaling by the largest position of a batch."""
    given = getattr(config, "rope_parameters", None) or {}
    for scaling in (given, *(each for each in given.values() if isinstance(each, dict))):
        if scaling.get("rope_type") in ("longrope", "dynamic"):
            limit = scaling.get("original_max_position_embeddings") or config.max_position_embeddings
            return int(limit) if longest > limit else None
    return None


def has_attention(config: Any) -> bool:
    """Whether any layer attends; a state-space model names no heads."""
    return bool(getattr(config, "num_attention_heads", None))


def measure_leak(head: SplitLanguageModel, batch: TokenBatch, first: int) -> float:
    """How far hidden states of packed rows move when the first row is another one, as a share of their norm: a sum of
    losses can hide it, in which differences of both signs cancel.

    Args:
        batch: one sequence of several rows.
        first: tokens of its first row.
    """
    ids_BT = batch.inputs["input_ids"]
    behind_K = torch.arange(first, ids_BT.shape[1], device=ids_BT.device)
    if not len(behind_K):
        return 0.0
    other_BT = ids_BT.clone()
    # The wrong way round: rows may begin alike, and end alike.
    other_BT[0, :first] = ids_BT[0, first:].repeat(1 + first // len(behind_K))[:first].flip(0)
    plain_KH, moved_KH = (
        head.select_hidden(TokenBatch({**batch.inputs, "input_ids": each_BT}, behind_K, behind_K)).float()
        for each_BT in (ids_BT, other_BT)
    )
    return float(((plain_KH - moved_KH).norm(dim=-1) / plain_KH.norm(dim=-1).clamp(min=1e-6)).max())
