"""The config of a GGUF file's model, with what transformers leaves out of it.

transformers 5.23 takes most settings over, but keeps its own defaults for a few sizes and for special tokens that the
file doesn't have, and loses how positions are scaled (see `gguf_positions`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from afina.models.gguf_header import GgufHeader
from afina.models.gguf_positions import find_positions
from afina.models.gguf_vocabulary import Vocabulary
from afina.models.load import SAFE

GEMMA_27B = {"gemma2": 46, "gemma3": 62}


def load_config(header: GgufHeader, vocabulary: Vocabulary, alone: Path) -> Any:
    """The config that transformers reads from the file, completed.

    Args:
        header: of the file.
        vocabulary: of the file.
        alone: the file in a folder without others.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(alone.parent, gguf_file=alone.name, **SAFE)
    roles = vocabulary.roles
    config.update({f"{role}_token_id": roles.get(role) for role in ("bos", "eos", "pad")})
    config.update(_find_sizes(header))
    positions = find_positions(header)
    if positions:
        config.rope_parameters = {**(config.rope_parameters or {}), **positions}
    if "long_factor" in positions and header.architecture == "phi3":  # which asks its config itself
        config.original_max_position_embeddings = positions["original_max_position_embeddings"]
    config._name_or_path = ""
    return config


def _find_sizes(header: GgufHeader) -> dict[str, Any]:
    """Sizes that the file states and transformers leaves at what the best known model of the kind has."""
    architecture = header.architecture
    if architecture not in ("gpt2", "qwen3", "qwen3moe", *GEMMA_27B):
        return {}
    keys = ("attention.key_length", "embedding_length", "attention.head_count", "context_length", "block_count")
    head, width, heads, context, layers = (header.find(f"{architecture}.{key}", int) for key in keys)
    if architecture == "gpt2" and context:
        return {"n_positions": context}
    if architecture.startswith("qwen3") and head:
        return {"head_dim": head}
    if architecture in GEMMA_27B and head and width and heads:
        # The model of 27B alone, known by its layers, scales by another number, as in llama.cpp.
        return {"query_pre_attn_scalar": width // heads if layers == GEMMA_27B[architecture] else head}
    return {}
