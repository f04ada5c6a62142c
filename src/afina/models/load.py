"""Load a model with a head, or a language model, and its tokenizer: safetensors only, no code from the folder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.errors import ModelError, describe_cause
from afina.models.completeness import check_whole
from afina.models.inspect import load_text_config

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# The name under which transformers knows our attention; it isn't saved with a model.
ATTENTION = "afina"
# What the tokenizers library raises where its Rust code gave up; no `Exception`, and not to be imported.
PANIC = "PanicException"
# No code from the folder, no pickle, no network: what is loaded lies on this disk.
SAFE = {"trust_remote_code": False, "local_files_only": True}


@dataclass
class LoadedModel:
    """A model with its head, and what is new in it."""

    model: PreTrainedModel
    new_modules: tuple[str, ...]
    """Paths of modules outside the backbone, and of those whose weights the folder didn't hold."""


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The folder's tokenizer, padding on the right, with a padding token.

    A tokenizer without one (Llama, GPT-2) pads with its end token: positions after the last real token are masked and
    pooled over by nobody, so the choice changes no number.
    """
    from transformers import AutoTokenizer

    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, **SAFE)
            tokenizer("a text")  # one that lacks a token which it names fails only now
        except BaseException as error:  # any library error here means that the folder's tokenizer is unusable
            if not isinstance(error, Exception) and type(error).__name__ != PANIC:
                raise
            if (folder / "config.json").exists():  # not beside an adapter
                load_text_config(folder)  # the library reads it first, so it may be that which is damaged
            raise ModelError(
                f"the tokenizer in {folder} can't be loaded", found=describe_cause(error, "transformers"),
                remedy="download or save the model again, its tokenizer's files with it",
            ) from error  # fmt: skip
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        for token in (tokenizer.eos_token, tokenizer.unk_token, tokenizer.bos_token):
            if token is not None:
                tokenizer.pad_token = token
                break
        else:
            raise ModelError(
                f"the tokenizer in {folder} has no token to pad with", expected="a pad, eos, unk or bos token"
            )
    return tokenizer


def load_classifier(
    folder: Path,
    head: Mapping[str, Any],
    pad_token_id: int | None,
    *,
    dropout: float | str = "model",
    dtype: torch.dtype | None = None,
    quantization: Any = None,
    attention: str = "auto",
    is_base: bool = True,
    of_words: bool = False,
) -> LoadedModel:
    """The folder's model as AutoModelForSequenceClassification with a head of the given shape.

    Args:
        folder: with config.json and safetensors.
        head: `num_labels`, `problem_type`, `id2label`, `label2id` for the model's config.
        pad_token_id: written into the config, since decoders find the last token of a row with it.
        dropout: share of activations dropped while training, everywhere; "model" keeps the config's own.
        dtype: of all weights, by default float32.
        quantization: a transformers quantization config, for a base in 4 bits.
        attention: `sdpa` or `eager`; "auto" takes ours where it is the faster one.
        is_base: whether it begins a training, so that the head may be new; else it is a result, which is whole.
        of_words: whether the head reads each token: AutoModelForTokenClassification.

    Raises:
        ModelError: if it can't be loaded, or weights are missing or of another shape that can't be new.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

    kind: Any = AutoModelForTokenClassification if of_words else AutoModelForSequenceClassification
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(folder, **SAFE)
            dropouts = dropout_settings(config, dropout)
            found = {name: getattr(config, name) for name in dropouts}
            config.update({**head, "pad_token_id": pad_token_id, **dropouts})
            settle_attention(config)
            model, info = kind.from_pretrained(
                folder, config=config, dtype=dtype or torch.float32, use_safetensors=True, output_loading_info=True,
                ignore_mismatched_sizes=True, quantization_config=quantization, **choose_attention(attention), **SAFE,
            )  # fmt: skip
        except Exception as error:
            raise ModelError(
                f"the model in {folder} can't be loaded", found=describe_cause(error, "transformers")
            ) from error
    parameters = {name for name, _ in model.named_parameters()}
    check_whole(folder, info, parameters, model.base_model_prefix, is_base=is_base)
    if attention == "auto":
        use_products(model)
    use_compiled_layers(model)
    keep_head_fp32(model)
    mismatched = {name for name, *_ in info["mismatched_keys"]}
    model.config.update({**found, "use_cache": False})  # the layers are made; what is saved says what it said before
    return LoadedModel(model, list_new_modules(model, set(info["missing_keys"]) | mismatched))


def load_language_model(
    folder: Path,
    *,
    dropout: float | str = "model",
    dtype: torch.dtype | None = None,
    quantization: Any = None,
    attention: str = "auto",
) -> LoadedModel:
    """The folder's model as AutoModelForCausalLM, nothing of it new. Arguments as for `load_classifier`.

    Raises:
        ModelError: if it can't be loaded, or weights are missing.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(folder, **SAFE)
            dropouts = dropout_settings(config, dropout)
            found = {name: getattr(config, name) for name in dropouts}
            config.update(dropouts)
            settle_attention(config)
            model, info = AutoModelForCausalLM.from_pretrained(
                folder, config=config, dtype=dtype or torch.float32, use_safetensors=True, output_loading_info=True,
                quantization_config=quantization, **choose_attention(attention), **SAFE,
            )  # fmt: skip
        except Exception as error:
            raise ModelError(
                f"the model in {folder} can't be loaded", found=describe_cause(error, "transformers")
            ) from error
    if info["missing_keys"]:
        raise ModelError(
            f"the weights in {folder} are not those of a whole language model",
            found=f"without {', '.join(sorted(info['missing_keys'])[:3])}",
            expected="a checkpoint of a causal language model",
        )
    if attention == "auto":
        use_products(model)
    use_compiled_layers(model)
    model.config.update(found)
    return LoadedModel(model, ())


def settle_attention(config: Any) -> None:
    """One attention for all rows. BigBird's is sparse until a short batch comes, and whole for ever after, so that what
    it says of a text would depend on the batches before."""
    if getattr(config, "attention_type", None) == "block_sparse":
        config.attention_type = "original_full"


def keep_head_fp32(model: PreTrainedModel) -> None:
    """Make the head compute in fp32; one of another make stays as it is."""
    from afina.models.heads import compute_in_fp32, find_head

    with contextlib.suppress(ModelError):
        compute_in_fp32(find_head(model))


def use_compiled_layers(model: PreTrainedModel) -> None:
    """Make layers compute by compiled kernels, see `models/compiled_layers`."""
    from afina.models import compiled_layers

    compiled_layers.use_compiled_layers(model)


def choose_attention(attention: str) -> dict[str, str]:
    """The keyword argument of from_pretrained; none leaves the choice to transformers."""
    return {} if attention == "auto" else {"attn_implementation": attention}


def use_products(model: PreTrainedModel) -> None:
    """Make the model call our attention, if it calls torch's fused kernel through transformers' interface."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    from afina.kernels.attention import attention_forward

    if model.config._attn_implementation != "sdpa" or not model._can_set_attn_implementation():
        return
    AttentionInterface.register(ATTENTION, attention_forward)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    model.set_attn_implementation(ATTENTION)


def list_new_modules(model: PreTrainedModel, missing: set[str]) -> tuple[str, ...]:
    """The top-level modules beside the backbone, and modules inside it whose weights were missing (a pooler, say)."""
    backbone = model.base_model_prefix
    outside = [
        name for name, module in model.named_children() if name != backbone and any(True for _ in module.parameters())
    ]
    inside = {
        ".".join(key.split(".")[:2])
        for key in missing
        if key.startswith(f"{backbone}.") and not key.endswith(".position_ids")
    }
    return (*outside, *sorted(inside))


def dropout_settings(config: Any, dropout: float | str) -> dict[str, float]:
    """The config's own names for dropout, all set to `dropout`; none for "model"."""
    if dropout == "model":
        return {}
    names = [
        name for name, value in vars(config).items()
        if (name.endswith(("dropout", "_pdrop", "dropout_prob"))) and isinstance(value, int | float | None)
        and not isinstance(value, bool)
    ]  # fmt: skip
    return dict.fromkeys(names, float(dropout))


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps transformers' progress bars and its report of new weights out of our output; errors still come through."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
