"""Sizes in a config.json that no model has, refused before transformers makes lists, layers and tables of them.

The weights would give such a config away, but only once a model of that size was built: a billion names of classes
alone take tens of gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from afina.errors import Problem
from afina.models.settings import iterate_settings, show_value

# Each is at least ten times what the largest published models have.
LARGEST = {
    **dict.fromkeys(("num_labels", "_num_labels", "id2label", "label2id"), 1_000_000),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers", "decoder_layers",
         "num_decoder_layers", "num_nextn_predict_layers"), 10_000,
    ),
    **dict.fromkeys(("hidden_size", "dim", "n_embd", "d_model", "embedding_size", "word_embed_proj_dim"), 1_000_000),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "n_inner", "d_ff", "ffn_dim"), 10_000_000),
    **dict.fromkeys(("num_attention_heads", "n_heads", "n_head", "num_heads", "num_key_value_heads"), 100_000),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 100_000),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 100_000_000),
    **dict.fromkeys(("vocab_size", "type_vocab_size"), 100_000_000),
}  # fmt: skip


def find_absurd_sizes(file: str, settings: Any) -> Iterator[Problem]:
    """Numbers and lists of a config.json, at any depth, that are larger than a model of any use could have."""
    if file != "config.json":
        return
    for key, value in iterate_settings(settings):
        size = len(value) if isinstance(value, dict | list) else value
        if key in LARGEST and isinstance(size, int | float) and not size <= LARGEST[key]:
            shown = f"{len(value):,} entries" if isinstance(value, dict | list) else show_value(value)
            yield Problem(
                f"{file} has a {key} that no model has",
                found=shown,
                expected=f"at most {LARGEST[key]:,}",
                remedy="copy config.json from where the model was published",
            )
