"""Weights that are not those of a whole model are refused; a head may be new, and a pooler."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from afina.errors import ModelError
from afina.models.completeness import check_whole
from afina.models.load import load_classifier

HEAD = {"num_labels": 3, "id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
REMEDY = "  do: copy the folder again from where it came: config.json and the weights must be of one model"


def drop(folder: Path, part: str) -> int:
    """Remove the tensors with `part` in their names; how many they were."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    kept = {name: tensor for name, tensor in tensors.items() if part not in name}
    save_file(kept, path, {"format": "pt"})
    return len(tensors) - len(kept)


@pytest.mark.parametrize(
    ("family", "part"), [("bert", "layer.1."), ("llama", "layers.1."), ("modernbert", "layers.1.")]
)
def test_a_base_without_a_layer_is_refused(family: str, part: str, copy_model: Callable[[str], Path]) -> None:
    folder = copy_model(family)
    assert drop(folder, part) > 3
    with pytest.raises(ModelError, match=rf"not those of a whole model\n  found: without .*{part}.* in all\)"):
        load_classifier(folder, HEAD, 0)


def test_a_base_without_its_pooler_gets_a_new_one(copy_model: Callable[[str], Path]) -> None:
    folder = copy_model("bert")
    drop(folder, "pooler.")
    assert load_classifier(folder, HEAD, 0).new_modules == ("classifier", "bert.pooler")


def test_a_config_of_another_width_is_refused(copy_model: Callable[[str], Path]) -> None:
    folder = copy_model("bert")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"hidden_size": 2 * config["hidden_size"]}))
    with pytest.raises(ModelError) as caught:
        load_classifier(folder, HEAD, 0)
    assert "bert.embeddings.LayerNorm.bias of shape [32] instead of [64]" in str(caught.value)


def test_a_result_keeps_its_head(copy_model: Callable[[str], Path]) -> None:
    folder = copy_model("bert")
    load_classifier(folder, HEAD, 0).model.save_pretrained(folder)
    load_classifier(folder, HEAD, 0, is_base=False)
    with pytest.raises(ModelError, match=r"classifier.bias of shape \[3\] instead of \[2\]"):
        load_classifier(folder, {"num_labels": 2}, 0, is_base=False)
    drop(folder, "classifier.")
    load_classifier(folder, HEAD, 0)
    with pytest.raises(ModelError) as caught:
        load_classifier(folder, HEAD, 0, is_base=False)
    assert str(caught.value) == (
        f"the weights in {folder} are not those of a whole model\n"
        "  found: without classifier.bias, classifier.weight\n"
        f"  expected: all tensors of what config.json describes\n{REMEDY}"
    )


def test_buffers_may_be_missing() -> None:
    info = {"missing_keys": {"embeddings.position_ids"}, "mismatched_keys": set()}
    check_whole(Path("model"), info, {"embeddings.weight"}, "", is_base=False)
    with pytest.raises(ModelError):
        check_whole(Path("model"), info, {"embeddings.position_ids"}, "", is_base=False)
