"""What the model of a run says of its rows, as training and its proof both ask it.

Letters: N rows or words, C outputs.
"""

from __future__ import annotations

from torch import nn

from afina.data.encode import TokenArrays
from afina.data.encode_words import TaggedTokens, WordTokens
from afina.data.encoded import EncodedPart
from afina.pipeline.prepared_run import PreparedRun
from afina.tasks.base import Floats
from afina.training.inference import Inference, predict_logits
from afina.training.tagged_words import predict_words


def compute_logits(prepared: PreparedRun, model: nn.Module, tokens: TokenArrays | WordTokens) -> Floats:
    """Logits (N, C) of rows, or of words, by the run's device, precision and batches."""
    tokens_at_once = int(prepared.config.evaluation.eval_tokens_per_batch)
    inference = Inference(prepared.pad_id, tokens_at_once, prepared.device, prepared.setup.precision)
    if isinstance(tokens, WordTokens):
        return predict_words(model.to(prepared.device), tokens, inference)
    return predict_logits(model.to(prepared.device), tokens, inference)


def compute_part_logits(prepared: PreparedRun, model: nn.Module, part: EncodedPart) -> Floats:
    """Those of a part: of its rows, or of their words."""
    return compute_logits(prepared, model, part.words if isinstance(part, TaggedTokens) else part.tokens)
