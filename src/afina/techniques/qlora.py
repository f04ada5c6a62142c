"""QLoRA: LoRA beside a base whose weights are stored in 4 bits (NF4, its scales quantised too).

Paper: Dettmers et al. 2023, arXiv 2305.14314. Storage is bitsandbytes'. Its forward on CPUs with AVX512-BF16
repacks the weights at the first evaluation into a form whose product has no gradient, and never back: training then
goes on with a third of its gradient and a loss that looks normal. The layer's own guard attribute keeps it from
repacking.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.config.techniques import TRAITS
from afina.errors import MissingExtraError
from afina.models.four_bits import import_bitsandbytes
from afina.models.load import LoadedModel, quiet_transformers
from afina.techniques.base import load_model
from afina.techniques.lora import Lora, keep_new_modules_fp32, merge_adapter

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from afina.techniques.base import Setup


# Beginnings or ends of paths. A pooler inside the backbone may be new, and what is new can't be trained in 4 bits.
NOT_QUANTISED = (
    "lm_head", "embed_out", "classifier", "score", "pooler", "pooler.dense", "head", "pre_classifier", "logits_proj",
    "summary",
)  # fmt: skip


class QLora(Lora):
    """See `Technique`. The result is that of LoRA; the base is quantised again, to the same numbers, for use."""

    name = "qlora"
    traits = TRAITS[name]
    needs = "bitsandbytes"

    def load(self, setup: Setup) -> LoadedModel:
        if import_bitsandbytes() is None:
            raise MissingExtraError("bitsandbytes", "qlora", "the technique qlora")
        loaded = load_model(
            setup, dropout=setup.config.training.dropout, dtype=setup.frozen_dtype,
            quantization=make_quantization(setup),
        )  # fmt: skip
        forbid_repacking(loaded.model)
        keep_new_modules_fp32(loaded)
        return loaded

    def save(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        super().save(model, tokenizer, folder)
        if not self.keeps_config(model):
            return
        # transformers would take a base for quantised already if the config beside the adapter said how it was stored.
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        del settings["quantization_config"]
        (folder / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def merge(self, folder: Path, setup: Setup) -> PreTrainedModel:
        # The adapter was trained beside the quantised weights, so it is these, in fp32, that it belongs to.
        import torch

        # They are put into a base of its own kinds of layers: unpacking leaves linear ones in place of others.
        with quiet_transformers():
            packed = self.load(setup).model.dequantize(dtype=torch.float32)
        loaded = load_model(replace(setup, precision="fp32"), dtype=torch.float32)
        copy_weights(packed, loaded.model)
        del packed
        return merge_adapter(self.attach(loaded, folder)).float()


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Give `target` the numbers of `source`, whose matrices may be stored the other way round: GPT-2's are."""
    import torch
    from transformers.pytorch_utils import Conv1D

    turned = {f"{name}.weight" for name, module in target.named_modules() if isinstance(module, Conv1D)}
    kept = {f"{name}.weight" for name, module in source.named_modules() if isinstance(module, Conv1D)}
    numbers = dict(source.named_parameters())
    with torch.no_grad():
        for name, parameter in target.named_parameters():
            found = numbers[name]
            parameter.copy_(found.T if name in turned - kept else found)


def is_quantised(path: str) -> bool:
    """Whether the linear layer at this path of the model is stored in 4 bits."""
    return not any(path == name or path.startswith(f"{name}.") or path.endswith(f".{name}") for name in NOT_QUANTISED)


def make_quantization(setup: Setup) -> Any:
    """transformers' description of the 4-bit base; whatever lies outside the backbone stays as it is."""
    from transformers import BitsAndBytesConfig

    settings = setup.config.quantization
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=settings.bnb_4bit_use_double_quant,
        bnb_4bit_compute_dtype=setup.frozen_dtype,
        llm_int8_skip_modules=list(NOT_QUANTISED),
    )


def forbid_repacking(model: nn.Module) -> int:
    """Set the guard on every 4-bit layer, so that an evaluation leaves its weights alone. Gives how many there are."""
    kind = import_bitsandbytes().nn.Linear4bit
    layers = [module for module in model.modules() if isinstance(module, kind)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)
