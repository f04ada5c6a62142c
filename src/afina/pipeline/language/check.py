"""A look at conversations before anything is trained: what is learned of them, and what is odd."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from afina.config.run import RunConfig
from afina.pipeline.language.mask import split_stretches
from afina.pipeline.language.prepare import prepare_language
from afina.pipeline.narrator import Narrator
from afina.pipeline.source import GENERATION, open_source
from afina.runs.folder import RunFolder


def check_conversations(config: RunConfig, source: Any, most: int) -> dict[str, Any]:
    """`parts` (rows, tokens, learned tokens), `notes`, `reasons`, and the first `rows` as stretches of text."""
    config = config.model_copy(update={"task": GENERATION})
    with tempfile.TemporaryDirectory(prefix="afina-") as work:
        folder, narrator = RunFolder(Path(work)), Narrator()
        prepared = prepare_language(config, folder, open_source(config, folder, source, narrator), narrator)
        train = prepared.parts["train"]
        shown = [
            {
                "row": int(train.row_numbers[row]),
                "trained_tokens": int(train.marks(row).sum()),
                "stretches": split_stretches(train, row, prepared.tokenizer),
            }
            for row in range(min(most, len(train)))
        ]
        parts = {
            name: {"rows": part.row_count, "tokens": len(part.tokens.ids), "trained_tokens": int(part.trained.sum())}
            for name, part in prepared.parts.items()
        }
    reasons = [{"setting": each.setting, "value": each.value, "reason": each.reason} for each in narrator.reasons]
    return {"parts": parts, "notes": narrator.notes, "reasons": reasons, "rows": shown}
