"""Tiny real models of each family, saved the way the family publishes its pretrained weights.

Real classes of transformers with two layers, 32 wide, over the byte tokenizer of `testing/tokenizers.py`.
Decisions:

- A base or language-model checkpoint is saved, never a classifier: the task's head is new, as in real
  fine-tuning.
- Weights are drawn afresh with a spread of 1 / sqrt(inputs), so that outputs of two texts differ clearly;
  with the usual 0.02 a model this narrow answers nearly the same to everything and a broken test would still
  pass.
- llama, mistral and gpt2 have no padding token, qwen's stands only in the tokenizer, and phi3's is also its
  end token: as published.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from afina.testing import tokenizers as byte_level
from afina.testing.tokenizers import SpecialTokens, build_tokenizer

if TYPE_CHECKING:
    import torch

MAX_POSITIONS = 128
HIDDEN, LAYERS, HEADS, INNER = 32, 2, 4, 64
EMBEDDING_SPREAD = 0.5
VECTOR_SPREAD = 0.1
HEAD_SPREAD = 0.2


@dataclass(frozen=True, slots=True)
class Family:
    """How a family publishes its models: the class of the checkpoint, its sizes and its special tokens."""

    architecture: Literal["encoder", "decoder"]
    checkpoint: str
    """Class of transformers whose weights are saved."""
    specials: SpecialTokens
    config: dict[str, Any]
    pad_in_config: bool = True
    """Whether config.json names the padding token; if not, only the tokenizer does."""


_BERT_SIZES = {
    "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "intermediate_size": INNER, "max_position_embeddings": MAX_POSITIONS,
}  # fmt: skip
# Position 0 of RoBERTa's table is never used and position 1 is the padding's, hence two rows more.
_ROBERTA_SIZES = _BERT_SIZES | {"max_position_embeddings": MAX_POSITIONS + 2, "type_vocab_size": 1}
_LLAMA_SIZES = _BERT_SIZES | {"num_key_value_heads": 2}
_GEMMA_SIZES = _LLAMA_SIZES | {
    "head_dim": HIDDEN // HEADS, "query_pre_attn_scalar": HIDDEN // HEADS, "sliding_window": 32,
    "layer_types": ["sliding_attention", "full_attention"],
}  # fmt: skip
_DISTILBERT_SIZES = {
    "dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER,
    "max_position_embeddings": MAX_POSITIONS,
}  # fmt: skip
_MODERNBERT_SIZES = _BERT_SIZES | {
    "local_attention": 32,
    "layer_types": ["full_attention", "sliding_attention"],
}
_GPT2_SIZES = {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "n_positions": MAX_POSITIONS}
_DEBERTA_SIZES = _BERT_SIZES | {
    "type_vocab_size": 0, "relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False,
}  # fmt: skip


def _encoder(checkpoint: str, specials: SpecialTokens, config: dict[str, Any]) -> Family:
    return Family("encoder", checkpoint, specials, config)


def _decoder(checkpoint: str, specials: SpecialTokens, config: dict[str, Any], *, pad: bool = False) -> Family:
    return Family("decoder", checkpoint, specials, config, pad_in_config=pad)


_PLAIN_BERT = byte_level.BERT_WITHOUT_TYPES
FAMILIES: dict[str, Family] = {
    "albert": _encoder("AlbertForMaskedLM", byte_level.BERT, _BERT_SIZES | {"embedding_size": 16}),
    "bert": _encoder("BertModel", byte_level.BERT, _BERT_SIZES),
    "deberta-v2": _encoder("DebertaV2Model", byte_level.BERT, _DEBERTA_SIZES),
    "distilbert": _encoder("DistilBertForMaskedLM", _PLAIN_BERT, _DISTILBERT_SIZES),
    "electra": _encoder("ElectraModel", byte_level.BERT, _BERT_SIZES | {"embedding_size": 16}),
    "modernbert": _encoder("ModernBertForMaskedLM", _PLAIN_BERT, _MODERNBERT_SIZES),
    "mpnet": _encoder("MPNetForMaskedLM", byte_level.ROBERTA, _BERT_SIZES | {"max_position_embeddings": 130}),
    "roberta": _encoder("RobertaForMaskedLM", byte_level.ROBERTA, _ROBERTA_SIZES),
    "xlm-roberta": _encoder("XLMRobertaForMaskedLM", byte_level.ROBERTA, _ROBERTA_SIZES),
    "gemma3": _decoder("Gemma3ForCausalLM", byte_level.GEMMA, _GEMMA_SIZES, pad=True),
    "gpt2": _decoder("GPT2LMHeadModel", byte_level.GPT2, _GPT2_SIZES),
    "llama": _decoder("LlamaForCausalLM", byte_level.LLAMA, _LLAMA_SIZES),
    "mistral": _decoder("MistralForCausalLM", byte_level.LLAMA, _LLAMA_SIZES | {"sliding_window": 32}),
    "phi3": _decoder("Phi3ForCausalLM", byte_level.PHI3, _LLAMA_SIZES, pad=True),
    "qwen2": _decoder("Qwen2ForCausalLM", byte_level.QWEN, _LLAMA_SIZES | {"tie_word_embeddings": True}),
    "qwen3": _decoder("Qwen3ForCausalLM", byte_level.QWEN, _LLAMA_SIZES | {"head_dim": 8, "tie_word_embeddings": True}),
}
ENCODERS = tuple(name for name, family in FAMILIES.items() if family.architecture == "encoder")
DECODERS = tuple(name for name, family in FAMILIES.items() if family.architecture == "decoder")


def save_tiny_model(family: str, folder: Path, *, seed: int = 0) -> Path:
    """`folder`, now holding config.json, model.safetensors and the tokenizer of a tiny model of `family`.

    The same family and seed give the same bytes; torch's own random state is left as it was.
    """
    import torch
    import transformers

    shape = FAMILIES[family]
    checkpoint_class = getattr(transformers, shape.checkpoint)
    config = checkpoint_class.config_class(**_complete_config(shape))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = checkpoint_class(config)
        _spread_weights(model)
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    if bars:
        transformers.utils.logging.enable_progress_bar()
    build_tokenizer(shape.specials, model_max_length=MAX_POSITIONS).save_pretrained(folder)
    return folder


def _complete_config(shape: Family) -> dict[str, Any]:
    """The sizes, the vocabulary and the ids of the special tokens, for the class of the config."""
    # A head added later is drawn with `initializer_range`.
    config = shape.config | {"vocab_size": shape.specials.vocab_size, "initializer_range": HEAD_SPREAD}
    for name in ("bos", "eos", "cls", "sep", "pad"):
        config[f"{name}_token_id"] = shape.specials.find_id(f"{name}_token")
    if not shape.pad_in_config and shape.architecture == "decoder":
        config["pad_token_id"] = None
    return config


def _spread_weights(model: torch.nn.Module) -> None:
    """Draw every matrix again, and move every vector (bias, norm) away from its constant start."""
    import torch

    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim < 2:
                weight.add_(torch.randn_like(weight), alpha=VECTOR_SPREAD)
            else:
                spread = EMBEDDING_SPREAD if id(weight) in embeddings else weight.shape[-1] ** -0.5
                weight.normal_(0.0, spread)
