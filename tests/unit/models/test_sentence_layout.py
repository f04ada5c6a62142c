"""A pooled classifier comes back from its folder, and sentence-transformers itself gives the same numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from afina.data.batches import collate_rows
from afina.errors import ModelError
from afina.models.heads import POOLINGS, LinearHead, PooledClassifier, make_linear
from afina.models.load import load_classifier, load_tokenizer
from afina.models.sentence_layout import load_sentence_model, save_sentence_model
from afina.testing.models import HIDDEN, MAX_POSITIONS

TEXTS = ["kettle and knife", "a", "snow in the west, willow and a low cloud", "Kettle AND knife"]
HEAD = {"num_labels": 3, "id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}


@pytest.fixture
def saved(tiny_models: Callable[[str], Path], tmp_path: Path) -> Callable[..., tuple[PooledClassifier, Path]]:
    """`saved(family, pooling)`: a classifier and the folder that holds it."""

    def build(family: str, pooling: str, **options: Any) -> tuple[PooledClassifier, Path]:
        tokenizer = load_tokenizer(tiny_models(family))
        backbone = load_classifier(tiny_models(family), HEAD, tokenizer.pad_token_id).model.base_model
        random = np.random.default_rng(0)
        head = LinearHead(random.normal(size=(3, HIDDEN)).astype(np.float32), np.asarray([1, 2, 3], np.float32))
        classifier = PooledClassifier(backbone, pooling, make_linear(head)).eval()
        save_sentence_model(classifier, tokenizer, tmp_path / "saved", **options)
        return classifier, tmp_path / "saved"

    return build


def compute_logits(classifier: Any, tokens: Any) -> Any:
    with torch.no_grad():
        return classifier(**collate_rows(tokens, np.arange(len(tokens)), 0)).logits.numpy()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_the_folder_gives_the_same_logits(
    family: str, pooling: str, saved: Callable[..., Any], encode: Callable[..., Any]
) -> None:
    classifier, folder = saved(family, pooling)
    tokens = encode(family, TEXTS)
    again = load_sentence_model(folder)
    assert not again.training
    assert again.pooling == pooling
    assert again.config.id2label == HEAD["id2label"]
    logits = compute_logits(classifier, tokens)
    np.testing.assert_array_equal(compute_logits(again, tokens), logits)
    if (family, pooling) != ("llama", "first"):  # there it is the beginning token, which sees no other
        assert np.ptp(logits[:3], axis=0).min() > 1e-3


@pytest.mark.parametrize(
    ("family", "pooling"), [("bert", "mean"), ("bert", "first"), ("roberta", "mean"), ("qwen3", "last")]
)
def test_sentence_transformers_gives_the_same_numbers(
    family: str, pooling: str, saved: Callable[..., Any], encode: Callable[..., Any]
) -> None:
    from sentence_transformers import SentenceTransformer

    classifier, folder = saved(family, pooling)
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    found = model.encode(TEXTS)
    np.testing.assert_allclose(found, compute_logits(classifier, encode(family, TEXTS)), rtol=1e-4, atol=1e-5)
    assert found.shape == (4, 3)


@pytest.mark.parametrize(("options", "length"), [({}, MAX_POSITIONS), ({"max_seq_length": 9}, 9)])
def test_long_texts_are_cut_as_in_the_run(
    options: dict[str, int], length: int, saved: Callable[..., Any], encode: Callable[..., Any]
) -> None:
    from sentence_transformers import SentenceTransformer

    classifier, folder = saved("bert", "mean", **options)
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    assert model.max_seq_length == length
    texts = ["kettle " * 50]
    found = model.encode(texts)
    np.testing.assert_allclose(found, compute_logits(classifier, encode("bert", texts, length)), rtol=1e-4, atol=1e-5)


def test_the_folder_is_json_and_safetensors_only(saved: Callable[..., Any]) -> None:
    _, folder = saved("bert", "mean")
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [
        "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "config.json",
        "model.safetensors", "modules.json", "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    dense = json.loads((folder / "2_Dense" / "config.json").read_text())
    assert dense["activation_function"] == "torch.nn.modules.linear.Identity"


@pytest.mark.parametrize(
    "damage", ["1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "model.safetensors"]
)
def test_a_missing_piece_is_a_model_error(damage: str, saved: Callable[..., Any]) -> None:
    _, folder = saved("bert", "mean")
    (folder / damage).unlink()
    with pytest.raises(ModelError) as caught:
        load_sentence_model(folder)
    assert str(caught.value).startswith(f"the model in {folder} can't be loaded\n  found: ")


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_backbone_without_a_layer_is_refused(family: str, saved: Callable[..., Any]) -> None:
    from safetensors.torch import load_file, save_file

    _, folder = saved(family, "mean")
    tensors = load_file(folder / "model.safetensors")
    load_sentence_model(folder)
    kept = {name: tensor for name, tensor in tensors.items() if "layer.1." not in name}
    assert len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="are not those of a whole model"):
        load_sentence_model(folder)
