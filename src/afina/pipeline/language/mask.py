"""Which tokens of a row are learned, for people to see."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from afina.data.encode_conversations import TrainedRows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def split_stretches(
    rows: TrainedRows, row: int, tokenizer: PreTrainedTokenizerBase, most_tokens: int | None = None
) -> list[dict[str, Any]]:
    """`text`, `tokens` and `trained` of each stretch of a row whose tokens are all learned, or all only read."""
    ids, marks = rows.tokens.row(row)[:most_tokens].tolist(), rows.row_loss_mask(row)[:most_tokens].tolist()
    stretches = []
    for trained, pairs in groupby(zip(ids, marks, strict=True), key=lambda pair: bool(pair[1])):
        tokens = [token for token, _ in pairs]
        stretches.append({"text": tokenizer.decode(tokens), "tokens": len(tokens), "trained": trained})
    return stretches
