"""What a technique makes of a model, counted on tensors without numbers: parameters, bytes, and what a pass keeps.

The model's own code runs, with autocast and our kernels, and torch says which tensors its backward pass would need; so
there is no formula for each architecture that could be out of date. Blocks of one kind keep the same, so two shallow
models tell what a deep one keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from afina.advice.adapters import adapt_layers, count_dropped
from afina.config.run import RunConfig
from afina.models.empty import Blueprint, build_empty, keep_new_fp32
from afina.models.load import LoadedModel
from afina.techniques.base import Technique, check_checkpoints
from afina.techniques.lora import choose_target_modules
from afina.techniques.qlora import is_quantised
from afina.training.seen_rows import find_table, is_worth_it
from afina.training.weight_copies import find_copies, find_layers, train_weight_copies

FP32_BYTES, BF16_BYTES = 4, 2
# bitsandbytes stores a scale for each block of weights, and quantises these in blocks of their own.
BLOCK, SCALE_BLOCK = 64, 256


@dataclass(frozen=True)
class Outline:
    """A model as a technique trains it."""

    parameters: int
    """All numbers, adapters and trained copies included, as a run counts them."""
    trainable: int
    stepped: int
    """Trainable numbers with a gradient and moments: rows of the embedding that no training text names have none."""
    largest_stepped: int
    """Numbers of the largest tensor among them."""
    copied: int
    """Those of them whose weight has a bf16 copy, and a gradient in bf16."""
    weight_bytes: int
    """All weights and buffers as they are stored."""
    quantised: int
    """Numbers stored in 4 bits."""
    mapped_bytes: int
    """Bytes of the model's file that stay resident although no weight is read from them any more: weights in the file's
    own dtype aren't copied, and for the few of them that aren't quantised the whole file stays mapped."""
    reread_bytes: int
    """Bytes of the model's file that are copied into another dtype when an adapter's base is loaded."""
    multiplied: int
    """Numbers that a token is multiplied with on its way through the backbone: no tables, no head."""
    adapter: int
    """Numbers of the adapters among them."""
    dropped: int
    """Numbers of a token that torch's dropout draws and multiplies before adapters."""
    head: int
    """Numbers of a language model's head; 0 for the others."""
    head_trains: bool
    vocabulary: int
    hidden_size: int
    layers: int
    attention_width: int
    """Heads times the width of one."""


@dataclass(frozen=True)
class Kept:
    """Bytes that the backward pass needs of one forward pass."""

    outside: int
    """Of what lies outside the blocks."""
    block: int
    """Of the mean block."""
    layers: int
    is_estimated: bool = False
    """Whether a formula had to do, since the model's code asks for numbers."""

    @property
    def total(self) -> int:
        """Of the whole model."""
        return self.outside + self.block * self.layers


@contextmanager
def fake_tensors() -> Iterator[None]:
    """A context in which tensors have no numbers."""
    import logging

    from torch._subclasses.fake_tensor import FakeTensorMode

    logger = logging.getLogger("torch._subclasses.fake_tensor")
    was_disabled, logger.disabled = logger.disabled, True  # what fails there is told by us
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        logger.disabled = was_disabled


def outline(
    blueprint: Blueprint, technique: Technique, config: RunConfig, precision: str, distinct_tokens: int | None = None,
    *, copies: bool = False, compiled: bool = False,
) -> Outline:  # fmt: skip
    """Parameters and bytes of the model as the technique trains it.

    Args:
        distinct_tokens: of the training rows; None steps the whole embedding.
        copies: whether linear layers have bf16 copies of their weights.
        compiled: whether compiled kernels compute layers.

    Raises:
        ConfigError: if the model should compute activations again and can't.
    """
    with torch.device("meta"):  # enough for sizes, and lighter than `fake_tensors`, which imports torch's compiler
        loaded = build_empty(blueprint, storage_dtype(technique, precision))
        keep_new_fp32(loaded)
        if config.training.gradient_checkpointing and technique.traits.moves != "head":
            check_checkpoints(loaded.model)
        base = count_numbers(loaded.model)
        new = sum(count_numbers(loaded.model.get_submodule(name)) for name in loaded.new_modules)
        sizes = measure_layers(loaded)
        quantised, saved = count_quantised(loaded.model, config) if technique.traits.stored_in_4_bits else (0, 0)
        weight_bytes = sum(tensor.nbytes for tensor in {id(t): t for t in list_tensors(loaded.model)}.values()) - saved
        adapter = prepare(loaded, technique, config, compiled=compiled)
        moving = [parameter.numel() for parameter in loaded.model.parameters() if parameter.requires_grad]
        table = find_table(loaded.model) if config.training.lazy_embeddings and distinct_tokens else None
        stepped, copied_rows = list(moving), 0
        if table is not None and is_worth_it(table, distinct_tokens or 0):
            copied_rows = (distinct_tokens or 0) * table.embedding_dim
            stepped[stepped.index(table.weight.numel())] = copied_rows
        layers = find_layers(loaded.model) if copies else []
        copied = sum(count_numbers(layer) for layer in layers)
    new_again = new if technique.traits.moves == "adapter" else 0  # peft trains copies of the new modules
    return Outline(
        parameters=base + adapter + new_again,
        trainable=sum(moving),
        stepped=sum(stepped),
        largest_stepped=max(stepped, default=0),
        copied=copied,
        weight_bytes=weight_bytes + FP32_BYTES * (adapter + copied_rows + new_again),
        quantised=quantised,
        mapped_bytes=count_mapped(blueprint, technique, precision, quantised),
        reread_bytes=count_reread(blueprint, technique, precision),
        adapter=adapter,
        dropped=count_dropped(loaded.model),
        head_trains=technique.traits.moves == "all",
        **sizes,
    )


def count_kept(
    blueprint: Blueprint, technique: Technique, config: RunConfig, precision: str, rows: int, tokens: int,
    *, copies: bool = False, compiled: bool = False,
) -> Kept:  # fmt: skip
    """What one forward pass over `rows` rows of `tokens` tokens keeps for the backward pass.

    With gradient checkpointing that is each block's input, and one block at a time in full.

    Args:
        copies: whether linear layers have bf16 copies of their weights: then no pass makes and keeps any.
        compiled: whether compiled kernels compute layers.
    """
    if technique.traits.moves == "head":
        return Kept(0, 0, blueprint.layers)
    period = min(blueprint.period, blueprint.layers)
    try:
        shallow, deep = (
            count_kept_at(blueprint.with_layers(layers), technique, config, precision, rows, tokens, copies, compiled)
            for layers in (period, 2 * period)
        )
    except Exception:  # whatever a model's code raises where it asks for numbers that aren't there
        return estimate_kept(blueprint, precision, rows, tokens)
    block = (deep - shallow) // period
    outside = max(0, shallow - block * period)
    if config.training.gradient_checkpointing:
        width = int(blueprint.config.get_text_config().hidden_size)
        return Kept(outside + block, rows * tokens * width * FP32_BYTES, blueprint.layers)
    return Kept(outside, block, blueprint.layers)


def estimate_kept(blueprint: Blueprint, precision: str, rows: int, tokens: int) -> Kept:
    """What the usual transformer keeps: 34 s b h + 5 a s^2 b bytes a block in half precision.

    Paper: Korthikanti et al. 2022, arXiv 2205.05198, equation 1.
    """
    text = blueprint.config.get_text_config()
    width, heads = int(text.hidden_size), find_heads(text)
    block = 34 * tokens * rows * width + 5 * heads * tokens**2 * rows
    return Kept(0, block if precision == "bf16" else 2 * block, blueprint.layers, is_estimated=True)


def count_kept_at(
    blueprint: Blueprint, technique: Technique, config: RunConfig, precision: str, rows: int, tokens: int, copies: bool,
    compiled: bool,
) -> int:  # fmt: skip
    """Bytes of the distinct tensors that autograd saves, weights, their copies and buffers of the model left out."""
    kept: dict[int, Any] = {}
    with fake_tensors():
        loaded = build_empty(blueprint, storage_dtype(technique, precision), compiled=compiled)
        keep_new_fp32(loaded)
        prepare(loaded, technique, config, compiled=compiled)
        model = loaded.model.train()
        held = {tensor.untyped_storage()._cdata for tensor in list_tensors(model)}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in held:
                kept[storage._cdata] = storage  # keeping it keeps its address from being given to another
            return tensor

        ids = torch.zeros(rows, tokens, dtype=torch.long)
        body: Any = model.base_model if blueprint.is_language_model else model
        options = {"use_cache": False} if blueprint.is_language_model else {}
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
            train_weight_copies(model, wanted=copies),
        ):
            held |= {copy.untyped_storage()._cdata for copy in find_copies(model).values()}
            output = body(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
        del output
    return sum(storage.nbytes() for storage in kept.values())


def storage_dtype(technique: Technique, precision: str) -> torch.dtype:
    """The dtype of the base's weights: those that move are fp32, and so are those that a head is solved on."""
    return torch.bfloat16 if technique.traits.moves == "adapter" and precision == "bf16" else torch.float32


def prepare(loaded: LoadedModel, technique: Technique, config: RunConfig, *, compiled: bool = False) -> int:
    """Make trainable what the technique moves; gives the numbers of the adapters."""
    model: Any = loaded.model
    model.requires_grad_(technique.traits.moves == "all")
    if technique.traits.moves == "head":
        from afina.models.heads import find_head

        find_head(model).requires_grad_(True)
    if technique.traits.moves != "adapter":
        return 0
    settings = config.lora
    wanted = settings.target_modules
    is_language_model = not loaded.new_modules
    names = choose_target_modules(loaded, "all-linear" if wanted == "auto" and is_language_model else wanted).value
    dropout = float(settings.lora_dropout)
    for name in loaded.new_modules:
        model.get_submodule(name).requires_grad_(True)
    before = {id(parameter) for parameter in model.parameters()}
    in_4_bits = technique.traits.stored_in_4_bits
    adapt_layers(model, names, settings.r, dropout, in_4_bits, loaded.new_modules, compiled=compiled)
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in before)


def count_quantised(model: nn.Module, config: RunConfig) -> tuple[int, int]:
    """Numbers stored in 4 bits, and the bytes that this saves."""
    from transformers.pytorch_utils import Conv1D

    weights = [
        module.weight for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and is_quantised(name)
    ]  # fmt: skip
    numbers = sum(weight.numel() for weight in weights)
    blocks = numbers / BLOCK
    scales = blocks + FP32_BYTES * blocks / SCALE_BLOCK
    if not config.quantization.bnb_4bit_use_double_quant:
        scales = FP32_BYTES * blocks
    return numbers, sum(weight.nbytes for weight in weights) - int(numbers / 2 + scales)


def count_mapped(blueprint: Blueprint, technique: Technique, precision: str, quantised: int) -> int:
    """See `Outline.mapped_bytes`."""
    dtype = storage_dtype(technique, precision)
    return quantised * dtype.itemsize if technique.traits.stored_in_4_bits and is_stored_in(blueprint, dtype) else 0


def count_reread(blueprint: Blueprint, technique: Technique, precision: str) -> int:
    """See `Outline.reread_bytes`."""
    same = is_stored_in(blueprint, storage_dtype(technique, precision))
    return blueprint.stored_bytes if technique.traits.moves == "adapter" and not same else 0


def is_stored_in(blueprint: Blueprint, dtype: torch.dtype) -> bool:
    """Whether the model's files hold weights of this dtype and no other."""
    return blueprint.stored_dtypes == (str(dtype).removeprefix("torch."),)


def measure_layers(loaded: LoadedModel) -> dict[str, int]:
    """Sizes that decide how long a token takes."""
    model: Any = loaded.model
    text = model.config.get_text_config()
    output = model.get_output_embeddings() if not loaded.new_modules else None
    heads = find_heads(text)
    width = getattr(text, "head_dim", None) or int(text.hidden_size) // heads
    matrices = [
        (name, module.weight) for name, module in model.base_model.named_modules()
        if getattr(module, "weight", None) is not None and module.weight.ndim == 2
        and not isinstance(module, nn.Embedding)
    ]  # fmt: skip
    repeats = int(text.num_hidden_layers) if text.model_type == "albert" else 1
    return {
        "multiplied": sum(weight.numel() for _, weight in matrices) * repeats,
        "head": 0 if output is None else int(output.weight.numel()),
        "vocabulary": int(text.vocab_size),
        "hidden_size": int(text.hidden_size),
        "layers": int(text.num_hidden_layers),
        "attention_width": heads * width,
    }


def find_heads(text: Any) -> int:
    """Attention heads; one for a model without attention, whose states are as wide as its tokens."""
    return int(getattr(text, "num_attention_heads", None) or 1)


def count_numbers(module: nn.Module) -> int:
    """Numbers of the parameters, tied ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def list_tensors(model: nn.Module) -> list[torch.Tensor]:
    """Parameters and buffers."""
    return [*model.parameters(), *model.buffers()]
