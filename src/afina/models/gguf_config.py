"""The config of a GGUF file's model, with what transformers leaves out of it.

transformers 5.23 takes most settings over, but keeps its own defaults for a few sizes and for special tokens that the
file doesn't have, and loses how positions are scaled. Llama 3.1 and later store that as one
factor for each frequency; the settings of which the factors were made are found again and proved. Any other scaling
is refused.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

from afina.errors import Problem
from afina.models.gguf_header import GgufHeader, GgufTensor, describe_damage
from afina.models.gguf_vocabulary import Vocabulary
from afina.models.load import SAFE

ROPE_FACTORS = "rope_freqs.weight"
# Tables beside the weights: what they say stands in the config of transformers.
TABLES = (ROPE_FACTORS, "rope_factors_long.weight", "rope_factors_short.weight")
# The settings of every model of Llama 3.1, 3.2 and 3.3; only the factor differs.
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
GEMMA_27B = {"gemma2": 46, "gemma3": 62}
LARGEST_DIFFERENCE = 1e-3


def check_positions(header: GgufHeader) -> list[Problem]:
    """Why positions would come out wrong, if they would."""
    kind = header.find(f"{header.architecture}.rope.scaling.type", str) or "none"
    factor = header.settings.get(f"{header.architecture}.rope.scaling.factor", 1.0)
    names = {tensor.name for tensor in header.tensors}
    found = f"rope.scaling.type {kind}, factor {factor}" if kind != "none" and factor != 1.0 else ""
    if names & {*TABLES} - {ROPE_FACTORS}:
        found = "factors for long and for short texts"
    if not found and ROPE_FACTORS in names and _find_llama3(header) is None:
        found = f"{ROPE_FACTORS} that isn't made as for Llama 3"
    if not found:
        return []
    return [
        Problem(
            "positions are scaled in a way that transformers doesn't take over from a .gguf file",
            found=found,
            expected="no scaling, or that of Llama 3",
            remedy="--model with the original model, of which the .gguf file was made",
        )
    ]


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
    if any(tensor.name == ROPE_FACTORS for tensor in header.tensors):
        config.rope_parameters = {**(config.rope_parameters or {}), **(_find_llama3(header) or {})}
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


def _find_llama3(header: GgufHeader) -> dict[str, Any] | None:
    """The settings that give the file's factors; empty where these change nothing, None where no settings do."""
    tensor = next(tensor for tensor in header.tensors if tensor.name == ROPE_FACTORS)
    factors = _read_numbers(header, tensor)
    factor = round(max(factors), 3)
    if factor == min(factors) == 1:
        return {}
    base = header.settings.get(f"{header.architecture}.rope.freq_base", 10000.0)
    expected = [_scale(base ** (-place / len(factors)), factor) for place in range(len(factors))]
    differences = [abs(one - other) / other for one, other in zip(factors, expected, strict=True)]
    return {"rope_type": "llama3", "factor": factor, **LLAMA3} if max(differences) < LARGEST_DIFFERENCE else None


def _scale(frequency: float, factor: float) -> float:
    """By what one frequency is divided: short waves by 1, long ones by the factor, those between smoothly."""
    turns = LLAMA3["original_max_position_embeddings"] * frequency / (2 * math.pi)
    low, high = LLAMA3["low_freq_factor"], LLAMA3["high_freq_factor"]
    share = min(max((turns - low) / (high - low), 0.0), 1.0)
    return 1 / ((1 - share) / factor + share)


def _read_numbers(header: GgufHeader, tensor: GgufTensor) -> list[float]:
    """The numbers of a small table. Raises ModelError for one that can't be such a table."""
    if tensor.type != "F32" or len(tensor.shape) != 1 or tensor.numbers > 1 << 16:
        raise describe_damage(header.path, f"{tensor.name} of type {tensor.type} and shape {tensor.shape}")
    with header.path.open("rb") as file:
        file.seek(tensor.begin)
        data = file.read(tensor.bytes)
    if len(data) < tensor.bytes:
        raise describe_damage(header.path, f"{tensor.name} that ends behind the file")
    numbers = list(struct.unpack(f"<{tensor.numbers}f", data))
    if not all(0 < number < math.inf for number in numbers):
        raise describe_damage(header.path, f"{tensor.name} with {min(numbers)}")
    return numbers
