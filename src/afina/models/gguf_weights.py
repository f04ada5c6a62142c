"""The weights of a GGUF file, de-quantised by transformers and saved as safetensors, with a proof.

- Stored as float32: a de-quantised number is the product of a float16 scale and a whole number, plus an offset in
  some types, which bfloat16 or float16 would round a second time. Where all matrices of the file are float16 or
  bfloat16 that type is kept, provided that every number survives it: half the space for the same numbers.
- transformers leaves tensors out that it doesn't know, and draws at random what it doesn't find, with no more than a
  line in its log. So the numbers in the file are counted against those of the model, before any memory is taken.
- The saved folder, loaded afresh, must hold the same weights bit by bit and give the same logits.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.errors import ModelError
from afina.models.gguf_check import BLOCK
from afina.models.gguf_header import GgufHeader, describe_damage
from afina.models.gguf_positions import TABLES
from afina.models.load import SAFE

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

PROBE_TOKENS = 16
# Logits of the same weights differ by rounding where they lie otherwise in memory.
LARGEST_SHARE = 1e-4


def convert_weights(header: GgufHeader, config: Any, ends: list[int], alone: Path, folder: Path) -> None:
    """Write config.json, generation_config.json and safetensors into the folder.

    Args:
        header: of the file.
        config: of its model.
        ends: ids of the tokens that end a generation.
        alone: the file in a folder without others.
        folder: where to write.

    Raises:
        ModelError: the model doesn't hold all numbers of the file, or the folder doesn't give them back.
    """
    _count_numbers(header, make_empty(config))
    model = _load(config, alone)
    weights, logits = _hash_weights(model), _compute_logits(model)
    if not bool(logits.isfinite().all()):
        raise describe_damage(header.path, "logits that are not numbers")
    _save(model, _choose_dtype(header, model), ends, folder)
    del model  # before the second one is loaded
    _prove(header, folder, weights, logits)


def _load(config: Any, alone: Path) -> PreTrainedModel:
    """The model as transformers de-quantises it, in float32."""
    import torch
    import transformers

    # Some architectures stay packed unless told otherwise, in the versions that know how.
    packing = getattr(transformers, "GgufConfig", None)
    options = {"quantization_config": packing(dequantize=True)} if packing else {}
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that can't be turned off
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            alone.parent, gguf_file=alone.name, config=config, dtype=torch.float32, output_loading_info=True,
            use_safetensors=True, **options, **SAFE,
        )  # fmt: skip
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(
            "transformers finds no tensor in the file for some weights of the model",
            found=f"none for {len(missing)}, such as {', '.join(missing[:4])}",
            remedy="--model with the original model, of which the .gguf file was made",
        )
    return model


def make_empty(config: Any, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """A model that takes no memory until it takes weights over."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype or torch.float32, trust_remote_code=False)


def _count_numbers(header: GgufHeader, empty: PreTrainedModel) -> None:
    """Raises ModelError unless a model of this config holds as many numbers as the file."""
    layers = int(empty.config.num_hidden_layers)
    expected = sum(
        tensor.numbers
        for tensor in header.tensors
        # Blocks after the last layer guess further tokens ahead, and are no part of the language model.
        if tensor.name not in TABLES and not ((block := BLOCK.match(tensor.name)) and int(block[1]) >= layers)
    )
    weights = {id(weight): weight.numel() for weight in empty.state_dict(keep_vars=True).values()}  # tied ones once
    loaded = sum(weights.values())
    if loaded != expected:
        raise ModelError(
            f"transformers doesn't take over all of {header.path}",
            found=f"{loaded:,} numbers in the model, {expected:,} in the file",
            expected="as many in both",
            remedy="--model with the original model, of which the .gguf file was made",
        )


def _choose_dtype(header: GgufHeader, model: PreTrainedModel) -> torch.dtype:
    """The type in which the weights are stored; no number of the model changes by it."""
    import torch

    matrices = {tensor.type for tensor in header.tensors if len(tensor.shape) > 1}
    narrow = {"F16": torch.float16, "BF16": torch.bfloat16}
    dtype = narrow.get(matrices.pop()) if len(matrices) == 1 else None
    if dtype is None or not all(torch.equal(weight.to(dtype).float(), weight) for weight in model.parameters()):
        return torch.float32
    return dtype


def _save(model: PreTrainedModel, dtype: torch.dtype, ends: list[int], folder: Path) -> None:
    """Write a fresh model with these weights, since transformers refuses to save one that it read from GGUF."""
    from transformers import GenerationConfig

    settings = model.config.to_dict()
    for key in ("quantization_config", "_model_name_or_path", "unk_token_id"):  # of the file, not of the model
        settings.pop(key, None)
    config = type(model.config).from_dict(settings)
    fresh = make_empty(config, dtype)
    fresh.load_state_dict({name: weight.to(dtype) for name, weight in model.state_dict().items()}, assign=True)
    fresh.tie_weights()
    fresh.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, pad_token_id=config.pad_token_id, eos_token_id=ends or None
    )
    fresh.save_pretrained(folder)


def _hash_weights(model: PreTrainedModel) -> dict[str, str]:
    """A hash of each weight, so that two models can be compared without holding both."""
    return {
        name: hashlib.sha256(weight.detach().contiguous().numpy()).hexdigest()
        for name, weight in model.state_dict().items()
    }


def _compute_logits(model: PreTrainedModel) -> torch.Tensor:
    """Logits on tokens from all over the vocabulary."""
    import torch

    tokens = torch.linspace(0, model.config.vocab_size - 1, PROBE_TOKENS).long()
    with torch.inference_mode():
        return model(input_ids=tokens[None]).logits


def _prove(header: GgufHeader, folder: Path, weights: dict[str, str], logits: torch.Tensor) -> None:
    """Load the folder as anyone would, and raise ModelError unless it is the same model."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, **SAFE)
    found = _hash_weights(model)
    changed = sorted(name for name in weights.keys() | found.keys() if weights.get(name) != found.get(name))
    difference = float((_compute_logits(model) - logits).abs().max() / logits.abs().max())
    if changed or not difference < LARGEST_SHARE:
        raise ModelError(
            f"the conversion of {header.path} is not the same model",
            found=f"other weights: {', '.join(changed[:4])}" if changed else f"logits that differ by {difference:.1e}",
            remedy="--model with the original model, of which the .gguf file was made",
        )
