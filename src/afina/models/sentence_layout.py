"""The folder layout of sentence-transformers: Transformer, Pooling, Dense. Written and read here without that library.

`SentenceTransformer(folder).encode(texts)` gives the logits of such a folder. The form is the one that its versions
since 2 write and read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from afina.errors import ModelError, describe_cause
from afina.models.completeness import check_whole
from afina.models.heads import Fp32Linear, PooledClassifier
from afina.models.load import SAFE, choose_attention, quiet_transformers, use_compiled_layers, use_products

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Our poolings under the library's names.
POOLING_FLAGS = {
    "mean": "pooling_mode_mean_tokens",
    "first": "pooling_mode_cls_token",
    "last": "pooling_mode_lasttoken",
}

MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
]


def save_sentence_model(
    classifier: PooledClassifier, tokenizer: PreTrainedTokenizerBase, folder: Path, max_seq_length: int | None = None
) -> None:
    """Write backbone, tokenizer, pooling and head; the class names stand in config.json as `id2label`."""
    from safetensors.torch import save_file

    classifier.backbone.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    head = classifier.head
    length = max_seq_length or int(tokenizer.model_max_length)
    write_json(folder / "modules.json", MODULES)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
    write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": head.in_features,
            **{flag: name == classifier.pooling for name, flag in POOLING_FLAGS.items()},
        },
    )
    write_json(
        folder / "2_Dense" / "config.json",
        {
            "in_features": head.in_features,
            "out_features": head.out_features,
            "bias": True,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )
    tensors = {f"linear.{name}": tensor.detach().contiguous() for name, tensor in head.state_dict().items()}
    save_file(tensors, folder / "2_Dense" / "model.safetensors")


def load_sentence_model(folder: Path, attention: str = "auto") -> PooledClassifier:
    """The classifier in a folder that `save_sentence_model` wrote; `attention` as for `load_classifier`.

    Raises:
        ModelError: if a piece is missing or damaged.
    """
    from safetensors.torch import load_file
    from transformers import AutoModel

    try:
        flags = read_json(folder / "1_Pooling" / "config.json")
        shape = read_json(folder / "2_Dense" / "config.json")
        tensors = load_file(folder / "2_Dense" / "model.safetensors")
        with quiet_transformers():
            backbone, info = AutoModel.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True,
                **choose_attention(attention), **SAFE,
            )  # fmt: skip
        pooling = next(name for name, flag in POOLING_FLAGS.items() if flags.get(flag))
        head = Fp32Linear(shape["in_features"], shape["out_features"])
        head.load_state_dict({name.removeprefix("linear."): tensor for name, tensor in tensors.items()})
    except Exception as error:
        raise ModelError(
            f"the model in {folder} can't be loaded", found=describe_cause(error, "transformers")
        ) from error
    # Token vectors are pooled here: whether the architecture's own pooler is there makes no difference.
    check_whole(folder, info, {name for name, _ in backbone.named_parameters()}, "", is_base=True)
    if attention == "auto":
        use_products(backbone)
    use_compiled_layers(backbone)
    return PooledClassifier(backbone, pooling, head).eval()


def write_json(path: Path, value: Any) -> None:
    """Write JSON as these folders hold it, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
