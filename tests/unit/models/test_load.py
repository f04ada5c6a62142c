"""A model is loaded with the head that was asked for, its dropout everywhere, and nothing said about it."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from afina.data.batches import collate_rows
from afina.errors import ModelError
from afina.models.inspect import load_text_config
from afina.models.load import dropout_settings, load_classifier, load_tokenizer
from afina.testing.models import DECODERS, FAMILIES

HEAD = {
    "num_labels": 3, "problem_type": "single_label_classification", "id2label": {0: "a", 1: "b", 2: "c"},
    "label2id": {"a": 0, "b": 1, "c": 2},
}  # fmt: skip
TEXTS = ["kettle and knife", "a", "snow in the west, willow and a low cloud"]
NEW_MODULES = {
    "albert": ("classifier", "albert.pooler"),
    "deberta-v2": ("pooler", "classifier"),
    "distilbert": ("pre_classifier", "classifier"),
    "modernbert": ("head", "classifier"),
    **dict.fromkeys(("bert", "electra", "mpnet", "roberta", "xlm-roberta"), ("classifier",)),
    **dict.fromkeys(DECODERS, ("score",)),
}


def list_dropouts(model: nn.Module) -> dict[str, float]:
    """Every share of dropout in the modules: nn.Dropout's, and the numbers that attention keeps beside them."""
    found = {name: module.p for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if "drop" in key and isinstance(value, float) and not isinstance(module, nn.Dropout):
                found[f"{name}.{key}"] = value
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_reaches_every_place(family: str, tiny_models: Callable[[str], Path]) -> None:
    folder = tiny_models(family)
    model = load_classifier(folder, HEAD, 0, dropout=0.25).model
    found = list_dropouts(model)
    assert len(found) >= 2
    assert set(found.values()) == {0.25}
    assert list_dropouts(load_classifier(folder, HEAD, 0, dropout="model").model) == list_dropouts(
        AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_without_dropout_training_is_no_lottery(family: str, tiny_models: Callable[[str], Path]) -> None:
    ids = torch.tensor([[7, 30, 40, 50, 60]])
    spread = {}
    for dropout in (0.0, 0.5):
        model = load_classifier(tiny_models(family), HEAD, 0, dropout=dropout).model.train()
        with torch.no_grad():
            first, second = (model(input_ids=ids).logits for _ in range(2))
        spread[dropout] = float((first - second).abs().max())
    assert spread[0.5] > 1e-3
    assert spread[0.0] == 0.0


def test_only_shares_of_dropout_are_set() -> None:
    class Config:
        def __init__(self) -> None:
            self.attention_dropout, self.resid_pdrop, self.classifier_dropout = 0.1, 0, None
            self.use_dropout, self.dropout_kind_dropout, self.num_layers = True, "alpha", 2

    wanted = {"attention_dropout": 0.3, "resid_pdrop": 0.3, "classifier_dropout": 0.3}
    assert dropout_settings(Config(), 0.3) == wanted
    assert dropout_settings(Config(), "model") == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_new_modules_are_those_that_the_folder_did_not_hold(family: str, tiny_models: Callable[[str], Path]) -> None:
    folder = tiny_models(family)
    loaded = load_classifier(folder, HEAD, 0)
    assert loaded.new_modules == NEW_MODULES[family]
    again = load_classifier(folder, HEAD, 0).model.state_dict()
    new = tuple(f"{name}." for name in loaded.new_modules)
    state = loaded.model.state_dict()
    moved = {name for name, tensor in state.items() if not torch.equal(tensor, again[name])}
    assert moved
    assert all(name.startswith(new) for name in moved)
    # Matrices are drawn at random; only biases and norms begin at constants. The masked language model of ModernBERT
    # brings a dense layer that its classifier takes over: it's outside the backbone, and so trained whole.
    matrices = {name for name, tensor in state.items() if tensor.ndim > 1 and name.startswith(new)}
    assert matrices - moved == ({"head.dense.weight"} if family == "modernbert" else set())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_is_as_asked_for(family: str, tiny_models: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(tiny_models(family))
    model = load_classifier(tiny_models(family), HEAD, tokenizer.pad_token_id).model
    assert {key: getattr(model.config, key) for key in HEAD} == HEAD
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert model.config.use_cache is False
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model(input_ids=torch.tensor([[7, 30]])).logits.shape == (1, 3)


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_a_saved_classifier_keeps_its_head_or_gets_another_size(
    family: str, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    first = load_classifier(tiny_models(family), HEAD, 0).model
    first.save_pretrained(tmp_path)
    again = load_classifier(tmp_path, HEAD, 0)
    assert all(torch.equal(again.model.state_dict()[name], tensor) for name, tensor in first.state_dict().items())
    other = load_classifier(tmp_path, {"num_labels": 5, "problem_type": "single_label_classification"}, 0)
    assert other.model(input_ids=torch.tensor([[7, 30]])).logits.shape == (1, 5)
    assert other.new_modules == again.new_modules == tuple(n for n in NEW_MODULES[family] if "." not in n)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_pad_on_the_right_with_a_token(family: str, tiny_models: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(tiny_models(family))
    assert tokenizer.padding_side == "right"
    known = AutoTokenizer.from_pretrained(tiny_models(family))
    assert tokenizer.pad_token == (known.pad_token or known.eos_token)
    assert isinstance(tokenizer.pad_token_id, int)


def test_a_tokenizer_pads_on_the_right_whatever_it_says(copy_model: Callable[[str], Path]) -> None:
    folder = copy_model("llama")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": "left"}))
    assert AutoTokenizer.from_pretrained(folder).padding_side == "left"
    assert load_tokenizer(folder).padding_side == "right"


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_a_padded_batch_get_the_logits_they_get_alone(
    family: str, tiny_models: Callable[[str], Path], encode: Callable[..., Any]
) -> None:
    pad_id = load_tokenizer(tiny_models(family)).pad_token_id
    model = load_classifier(tiny_models(family), HEAD, pad_id).model.eval()
    tokens = encode(family, TEXTS)
    assert len(set(tokens.lengths.tolist())) == 3
    with torch.no_grad():
        together = model(**collate_rows(tokens, np.arange(3), pad_id)).logits
        alone = torch.cat([model(**collate_rows(tokens, np.asarray([i]), pad_id)).logits for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert (alone[0] - alone[1]).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_loading_says_nothing(family: str, tiny_models: Callable[[str], Path], capfd: Any, caplog: Any) -> None:
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_info()
    transformers_logging.enable_propagation()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tokenizer = load_tokenizer(tiny_models(family))
            load_classifier(tiny_models(family), HEAD, tokenizer.pad_token_id)
        assert transformers_logging.get_verbosity() == transformers_logging.INFO
    finally:
        transformers_logging.disable_propagation()
        transformers_logging.set_verbosity(verbosity)
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


def test_a_folder_without_weights_is_refused(copy_model: Callable[[str], Path]) -> None:
    folder = copy_model("bert")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError) as caught:
        load_classifier(folder, HEAD, 0)
    assert str(caught.value).startswith(f"the model in {folder} can't be loaded\n  found: transformers says: ")


def test_pickled_weights_are_never_loaded(copy_model: Callable[[str], Path]) -> None:
    folder = copy_model("bert")
    torch.save({"x": torch.zeros(1)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="can't be loaded"):
        load_classifier(folder, HEAD, 0)


def test_a_damaged_tokenizer_is_refused(copy_model: Callable[[str], Path]) -> None:
    folder = copy_model("bert")
    (folder / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(ModelError) as caught:
        load_tokenizer(folder)
    assert str(caught.value).startswith(f"the tokenizer in {folder} can't be loaded\n  found: ")


def test_a_damaged_tokenizer_beside_an_adapter_is_refused(copy_model: Callable[[str], Path]) -> None:
    """Such a folder may have no config.json."""
    folder = copy_model("bert")
    (folder / "config.json").unlink()
    (folder / "tokenizer.json").write_text('{"model": 5}')
    with pytest.raises(ModelError) as caught:
        load_tokenizer(folder)
    assert str(caught.value).startswith(f"the tokenizer in {folder} can't be loaded\n  found: ")


def test_a_damaged_config_is_not_taken_for_a_damaged_tokenizer(copy_model: Callable[[str], Path]) -> None:
    """transformers reads the one to find the other."""
    folder = copy_model("bert")
    (folder / "config.json").write_text('{"model_type": "bert"')
    with pytest.raises(ModelError) as caught:
        load_tokenizer(folder)
    assert str(caught.value).startswith(f"{folder}/config.json can't be read\n  found: no comma between two values")


def test_what_transformers_says_is_not_cut_off_in_a_sentence(tmp_path: Path) -> None:
    """It goes on with the names of all architectures."""
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError) as caught:
        load_text_config(tmp_path)
    assert caught.value.problems[0].found.startswith("transformers says: Unrecognized model in ")
    assert caught.value.problems[0].found.endswith(".")


def test_a_tokenizer_without_any_token_to_pad_with_is_refused(
    copy_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_model("qwen2")
    bare = AutoTokenizer.from_pretrained(folder)
    for role in ("pad_token", "eos_token", "unk_token", "bos_token"):
        setattr(bare, role, None)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *args, **options: bare)
    with pytest.raises(ModelError) as caught:
        load_tokenizer(folder)
    assert str(caught.value) == (
        f"the tokenizer in {folder} has no token to pad with\n  expected: a pad, eos, unk or bos token"
    )


def test_code_in_the_folder_is_not_run(copy_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy_model("bert")
    path = folder / "config.json"
    auto_map = {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": auto_map}))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    load_classifier(folder, HEAD, 0)
    assert not (tmp_path / "ran").exists()


def test_nothing_is_written_into_the_folder(copy_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy_model("llama")
    shutil.copytree(folder, tmp_path / "before")
    load_classifier(folder, HEAD, load_tokenizer(folder).pad_token_id)
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "before").iterdir())
    assert all((folder / name).read_bytes() == (tmp_path / "before" / name).read_bytes() for name in names)


def test_bigbird_attends_alike_whatever_came_before(tmp_path: Path) -> None:
    from transformers import BigBirdConfig, BigBirdForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = BigBirdConfig(
        vocab_size=50, max_position_embeddings=300, block_size=4, num_random_blocks=1, initializer_range=1.0, **sizes
    )
    BigBirdForSequenceClassification(config).save_pretrained(tmp_path)
    model = load_classifier(tmp_path, {"num_labels": 2}, 0).model.eval()
    long_BT, short_BT = torch.randint(1, 50, (1, 200)), torch.randint(1, 50, (1, 8))
    with torch.no_grad():
        before = model(long_BT).logits
        model(short_BT)
        assert torch.equal(model(long_BT).logits, before)
