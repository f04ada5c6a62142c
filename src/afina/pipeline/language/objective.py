"""The loss that the training of a language model minimises: taken apart and packed as far as that is proven to be the
plain one, on the user's own model and rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from afina.config.reason import Reason
from afina.data.packing import collate_packed, collate_padded, pack_rows
from afina.models.language_head import compare_with_forward, find_language_head
from afina.pipeline.language.prepare import PreparedLanguage
from afina.pipeline.narrator import Narrator
from afina.training.next_tokens import NextTokens

ROWS_TO_COMPARE = 4
# Relative to the loss. The halves round where the whole doesn't, in bf16 by a part in a hundred.
HALVES_TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
PACKED_TOLERANCE = {"fp32": 1e-5, "bf16": 1e-2}


def choose_objective(
    prepared: PreparedLanguage, model: nn.Module, accelerator: Accelerator, narrator: Narrator
) -> NextTokens:
    """The loss over the model's halves, and over packed rows, each where it is proven to be the plain one."""
    config, precision = prepared.config, prepared.setup.precision
    train, validation = prepared.parts["train"], prepared.parts["validation"]
    objective = NextTokens(train, validation, prepared.pad_id, int(config.evaluation.eval_tokens_per_batch))
    model.eval()
    head = find_language_head(model)
    batch = collate_padded(train, np.arange(min(ROWS_TO_COMPARE, len(train))), prepared.pad_id).to(accelerator.device)
    if head.linear is not None:
        with accelerator.autocast():
            halves, whole = compare_with_forward(model, head, batch)
        if not abs(halves - whole) <= HALVES_TOLERANCE[precision] * max(1.0, abs(whole)):
            narrator.note(f"the head is not taken apart: the loss would be {halves:.5f} instead of {whole:.5f}")
            objective = replace(objective, is_whole=True)
    else:
        objective = replace(objective, is_whole=True)
    return choose_packing(prepared, model, objective, accelerator, narrator)


def choose_packing(
    prepared: PreparedLanguage, model: nn.Module, objective: NextTokens, accelerator: Accelerator, narrator: Narrator
) -> NextTokens:
    """The objective with rows packed, where that is wanted and equal to rows alone."""
    wanted = prepared.config.data.packing
    name = "data.packing"
    if wanted is False or (wanted == "auto" and prepared.device == "cpu"):
        why = "as given" if wanted is False else "on a CPU rows of like length share a batch, with little padding"
        narrator.explain(Reason(name, False, why))
        return objective
    obstacle = find_obstacle(prepared, model, objective, accelerator)
    if obstacle:
        narrator.explain(Reason(name, False, obstacle))
        return objective
    packs = pack_rows(objective.train.tokens.lengths, int(prepared.config.model.max_seq_length))
    narrator.explain(
        Reason(name, True, f"{len(objective.train):,} rows in {len(packs):,} sequences, proven equal to rows alone")
    )
    return replace(objective, packs=packs)


def find_obstacle(prepared: PreparedLanguage, model: Any, objective: NextTokens, accelerator: Accelerator) -> str:
    """Why rows can't be packed for this model; an empty string if they can."""
    config = model.config.get_text_config()
    longest = int(objective.train.tokens.lengths.max())
    window = getattr(config, "sliding_window", None)
    if window and longest > window:
        return f"the model looks back {window} tokens only, and the longest row has {longest}"
    if config._attn_implementation not in ("sdpa", "afina"):
        return f"the model's attention ({config._attn_implementation}) takes no mask of blocks"
    data, pad_id = objective.train, prepared.pad_id
    rows = np.arange(min(ROWS_TO_COMPARE, len(data)))
    head = objective.find_head(model)
    with torch.no_grad(), accelerator.autocast():
        try:
            packed = float(head.sum_losses(collate_packed(data, [rows], pad_id).to(accelerator.device)))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            return f"the model refuses packed rows ({type(error).__name__})"
        alone = float(head.sum_losses(collate_padded(data, rows, pad_id).to(accelerator.device)))
    if not abs(packed - alone) <= PACKED_TOLERANCE[prepared.setup.precision] * max(1.0, abs(alone)):
        return f"packed rows would have a loss of {packed:.4f} instead of {alone:.4f}"
    return ""
