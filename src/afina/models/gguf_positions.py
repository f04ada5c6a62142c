"""How a GGUF file's model scales its rotary positions, as transformers' config says it.

The file says it in settings under `rope.scaling`, or in tables beside the weights. Only what transformers computes just
as llama.cpp does is taken over; anything else is refused with what was found.

- none and linear: one factor. A file without a type means linear, as in llama.cpp.
- yarn (Peng et al., 2023): llama.cpp multiplies attention by 0.1 ln(factor) + 1, as transformers does by itself. Files
  that scale it otherwise are refused, since converters don't agree on what they write there.
- longrope (Ding et al., 2024): factors for short and for long texts in two tables.
- Llama 3.1 and later: one factor for each frequency in a table; the settings of which these were made are found again
  and proved.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from afina.errors import Problem
from afina.models.gguf_header import GgufHeader, GgufTensor, describe_damage

ROPE_FACTORS = "rope_freqs.weight"
LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
# Tables beside the weights: what they say stands in the config of transformers.
TABLES = (ROPE_FACTORS, LONG, SHORT)
# Architectures with one set of rotary positions for all layers; their config holds it in `rope_parameters`.
UNIFORM = frozenset({"llama", "mistral", "phi3", "qwen2", "qwen2moe", "qwen3", "qwen3moe"})
# The settings of every model of Llama 3.1, 3.2 and 3.3; only the factor differs.
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
LARGEST_DIFFERENCE = 1e-3
# Settings of YaRN that must be absent, or have one of these values; -1 stands for llama.cpp's own choice.
YARN_FIXED = {
    "attn_factor": (1.0,), "yarn_attn_factor": (1.0, -1.0), "yarn_ext_factor": (1.0, -1.0),
    "yarn_log_multiplier": (0.0,),
}  # fmt: skip


class UnknownScalingError(ValueError):
    """Positions that transformers can't compute as the file means them; the text says what was found."""


def check_positions(header: GgufHeader) -> list[Problem]:
    """Why positions would come out wrong, if they would."""
    try:
        find_positions(header)
    except UnknownScalingError as error:
        return [
            Problem(
                "positions are scaled in a way that transformers can't take over from a .gguf file",
                found=str(error),
                expected="no scaling, or linear, yarn, longrope or that of Llama 3 in their usual form",
                remedy="--model with the original model, of which the .gguf file was made",
            )
        ]
    return []


def find_positions(header: GgufHeader) -> dict[str, Any]:
    """What `rope_parameters` of the config must say beside the base frequency; empty where nothing is scaled.

    Raises:
        UnknownScalingError: if transformers can't say it.
        ModelError: for numbers that make no sense.
    """
    names = {tensor.name for tensor in header.tensors}
    kind = header.find(_name(header, "type"), str) or "linear"
    factor = _read_factor(header)
    if ROPE_FACTORS in names:
        if (kind != "none" and factor != 1.0) or names & {LONG, SHORT}:
            raise UnknownScalingError(f"{ROPE_FACTORS} beside another scaling")
        return _find_llama3(header)
    if names & {LONG, SHORT}:
        scaling = _find_longrope(header, kind, names)
    elif kind == "none" or (factor == 1.0 and kind in ("linear", "yarn")):
        return {}
    elif kind == "linear":
        scaling = {"rope_type": "linear", "factor": factor}
    elif kind == "yarn":
        scaling = _find_yarn(header, factor)
    else:
        raise UnknownScalingError(f"rope.scaling.type {kind}, factor {factor}")
    if header.architecture not in UNIFORM:
        raise UnknownScalingError(
            f"rope.scaling.type {scaling['rope_type']} in a model of the kind {header.architecture}"
        )
    return scaling


def _name(header: GgufHeader, setting: str) -> str:
    return f"{header.architecture}.rope.scaling.{setting}"


def _read_factor(header: GgufHeader) -> float:
    """By what frequencies are divided; 0 means that they aren't."""
    older = f"{header.architecture}.rope.scale_linear"
    factor = header.find(_name(header, "factor"), float) or header.find(older, float) or 1.0
    if not 0 < factor < math.inf:
        raise describe_damage(header.path, f"rope.scaling.factor {factor}")
    return factor


def _find_yarn(header: GgufHeader, factor: float) -> dict[str, Any]:
    for setting, usual in YARN_FIXED.items():
        value = header.find(_name(header, setting), float)
        if value is not None and value not in usual:
            raise UnknownScalingError(f"rope.scaling.type yarn, {setting} {value:g}")
    betas = {name: header.find(_name(header, f"yarn_{name}"), float) for name in ("beta_fast", "beta_slow")}
    scaling = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": _read_original(header)}
    return scaling | {name: value for name, value in betas.items() if value is not None}


def _read_original(header: GgufHeader) -> int:
    """Tokens of a text in the first training, by default of the longest text."""
    context = header.find(f"{header.architecture}.context_length", int)
    original = header.find(_name(header, "original_context_length"), int) or context
    if not original:
        raise UnknownScalingError("no rope.scaling.original_context_length")
    return original


def _find_longrope(header: GgufHeader, kind: str, names: set[str]) -> dict[str, Any]:
    factor = header.find(_name(header, "attn_factor"), float)
    if not names >= {LONG, SHORT} or factor is None:
        raise UnknownScalingError("factors for long texts, without those for short ones or without attn_factor")
    if kind == "yarn" or _read_factor(header) != 1.0:
        raise UnknownScalingError("factors for long and for short texts beside another scaling")
    tables = {tensor.name: _read_numbers(header, tensor) for tensor in header.tensors if tensor.name in (LONG, SHORT)}
    rotated = header.find(f"{header.architecture}.rope.dimension_count", int) or _read_head_size(header)
    if any(2 * len(table) != rotated for table in tables.values()):
        raise UnknownScalingError(f"{len(tables[LONG])} and {len(tables[SHORT])} factors for {rotated} dimensions")
    return {
        "rope_type": "longrope",
        "long_factor": tables[LONG],
        "short_factor": tables[SHORT],
        "attention_factor": factor,
        "original_max_position_embeddings": _read_original(header),
        "partial_rotary_factor": rotated / _read_head_size(header),
    }


def _read_head_size(header: GgufHeader) -> int:
    """Numbers of a query."""
    settings = (
        header.find(f"{header.architecture}.{key}", int) for key in ("embedding_length", "attention.head_count")
    )
    width, heads = settings
    size = header.find(f"{header.architecture}.attention.key_length", int)
    if not size and not (width and heads):
        raise describe_damage(header.path, "no size of attention's heads")
    return size or (width or 0) // (heads or 1)


def _find_llama3(header: GgufHeader) -> dict[str, Any]:
    """The settings that give the file's factors; empty where these change nothing."""
    tensor = next(tensor for tensor in header.tensors if tensor.name == ROPE_FACTORS)
    factors = _read_numbers(header, tensor)
    factor = round(max(factors), 3)
    if factor == min(factors) == 1:
        return {}
    base = header.settings.get(f"{header.architecture}.rope.freq_base", 10000.0)
    expected = [_scale(base ** (-place / len(factors)), factor) for place in range(len(factors))]
    differences = [abs(one - other) / other for one, other in zip(factors, expected, strict=True)]
    if not max(differences) < LARGEST_DIFFERENCE:
        raise UnknownScalingError(f"{ROPE_FACTORS} that isn't made as for Llama 3")
    return {"rope_type": "llama3", "factor": factor, **LLAMA3}


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
        raise describe_damage(header.path, f"{tensor.name} that ends after the file")
    numbers = list(struct.unpack(f"<{tensor.numbers}f", data))
    if not all(0 < number < math.inf for number in numbers):
        raise describe_damage(header.path, f"{tensor.name} with {min(numbers)}")
    return numbers
