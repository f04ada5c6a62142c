"""The layer that gives the logits is found in every family, set, scaled; poolings are what a slow loop gives."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from afina.errors import ModelError
from afina.models.heads import (
    POOLINGS,
    LinearHead,
    PooledClassifier,
    describe_layout,
    find_head,
    find_head_path,
    make_linear,
    scale_head,
    set_head,
)
from afina.models.load import load_classifier
from afina.testing.models import DECODERS, FAMILIES, HIDDEN

NESTED = ("electra", "mpnet", "roberta", "xlm-roberta")
IDS = torch.tensor([[7, 30, 40, 50, 60]])


def load(folder: Path, outputs: int = 3) -> Any:
    torch.manual_seed(0)
    return load_classifier(folder, {"num_labels": outputs}, 0).model.eval()


def make_head(outputs: int, bias: bool = True) -> LinearHead:
    random = np.random.default_rng(outputs)
    bias_C = random.normal(size=outputs) if bias else np.zeros(outputs)
    return LinearHead(random.normal(size=(outputs, HIDDEN)).astype(np.float32), bias_C.astype(np.float32))


# One output, and as many as there are features: then other layers look the same.
@pytest.mark.parametrize(("family", "outputs"), [*product(FAMILIES, [HIDDEN]), ("bert", 1), ("llama", 1)])
def test_the_layer_found_gives_the_logits(family: str, outputs: int, tiny_models: Callable[[str], Path]) -> None:
    model = load(tiny_models(family), outputs)
    path, head = find_head_path(model), find_head(model)
    assert path == ("score" if family in DECODERS else "classifier.out_proj" if family in NESTED else "classifier")
    assert model.get_submodule(path) is head
    assert (head.bias is None) == (family in DECODERS)
    seen: list[torch.Tensor] = []
    head.register_forward_hook(lambda module, args, output: seen.append(output))
    logits = model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    torch.testing.assert_close(seen[0].reshape(-1, outputs)[-1:], logits, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's calls of older names in transformers
@pytest.mark.parametrize(
    ("family", "targets"),
    [("bert", ["query"]), ("distilbert", ["q_lin"]), ("roberta", ["query"]), ("llama", ["q_proj"])],
)
def test_under_peft_it_is_the_trained_copy(family: str, targets: list[str], tiny_models: Callable[[str], Path]) -> None:
    import peft

    loaded = load_classifier(tiny_models(family), {"num_labels": 3}, 0)
    settings = {"target_modules": targets, "modules_to_save": list(loaded.new_modules), "task_type": "SEQ_CLS"}
    wrapped = peft.get_peft_model(loaded.model.eval(), peft.LoraConfig(**settings)).eval()
    before = wrapped(input_ids=IDS).logits
    head = find_head(wrapped)
    assert head.weight.requires_grad
    scale_head(head, 3.0, 0.0)
    torch.testing.assert_close(wrapped(input_ids=IDS).logits, 3 * before)


def test_a_model_without_such_a_layer_is_refused() -> None:
    config = transformers.BertConfig(
        vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, num_labels=5
    )
    with pytest.raises(ModelError) as caught:
        find_head(transformers.BertModel(config))
    assert str(caught.value) == "BertModel has no linear layer that gives its 5 logits"


@pytest.mark.parametrize("bias", [True, False])
def test_a_solved_head_in_a_layer_gives_its_logits(bias: bool) -> None:
    head, layer = make_head(3, bias), nn.Linear(HIDDEN, 3, bias=bias)
    features = np.random.default_rng(1).normal(size=(5, HIDDEN)).astype(np.float32)
    assert np.abs(layer(torch.from_numpy(features)).detach().numpy() - head.logits(features)).max() > 0.1
    set_head(layer, head)
    found = layer(torch.from_numpy(features)).detach().numpy()
    np.testing.assert_allclose(found, head.logits(features), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        make_linear(head)(torch.from_numpy(features)).detach().numpy(), head.logits(features), rtol=1e-5, atol=1e-5
    )


def test_a_layer_without_bias_refuses_what_it_cannot_hold() -> None:
    layer = nn.Linear(HIDDEN, 3, bias=False)
    with pytest.raises(ValueError, match="can't hold the head's bias"):
        set_head(layer, make_head(3))
    with pytest.raises(ValueError, match="can't hold a shift"):
        scale_head(layer, 2.0, 1.0)


@pytest.mark.parametrize(("bias", "shift"), [(True, -7.0), (True, 0.0), (False, 0.0)])
def test_scaling_scales_the_logits(bias: bool, shift: float) -> None:
    layer = nn.Linear(HIDDEN, 1, bias=bias)
    features = torch.randn(6, HIDDEN)
    before = layer(features).detach()
    scale_head(layer, 2.5, shift)
    torch.testing.assert_close(layer(features).detach(), 2.5 * before + shift)
    scale_head(layer, 1 / 2.5, -shift / 2.5)
    torch.testing.assert_close(layer(features).detach(), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_pooling_is_what_a_slow_loop_gives(pooling: str) -> None:
    hidden = torch.randn(4, 6, 3)
    lengths = [6, 1, 3, 5]
    mask = (torch.arange(6) < torch.tensor(lengths)[:, None]).long()
    slow = {"mean": lambda row: row.mean(0), "first": lambda row: row[0], "last": lambda row: row[-1]}[pooling]
    wanted = torch.stack([slow(row[:length]) for row, length in zip(hidden, lengths, strict=True)])
    torch.testing.assert_close(POOLINGS[pooling](hidden, mask), wanted)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_pooled_classifier_gives_each_row_its_own_logits(
    family: str, pooling: str, tiny_models: Callable[[str], Path], encode: Callable[..., Any]
) -> None:
    from afina.data.batches import collate_rows

    backbone = load(tiny_models(family)).base_model
    head = make_head(4)
    classifier = PooledClassifier(backbone, pooling, make_linear(head)).eval()
    assert classifier.config is backbone.config
    tokens = encode(family, ["kettle and knife", "a", "snow in the west"])
    with torch.no_grad():
        logits = classifier(**collate_rows(tokens, np.arange(3), 0)).logits.numpy()
        for i in range(3):
            alone = torch.from_numpy(tokens.row(i).astype(np.int64))[None]
            hidden = backbone(input_ids=alone).last_hidden_state[0].numpy()
            pooled = {"mean": hidden.mean(0), "first": hidden[0], "last": hidden[-1]}[pooling]
            np.testing.assert_allclose(logits[i], head.logits(pooled[None])[0], rtol=1e-4, atol=1e-5)
    if (family, pooling) != ("llama", "first"):  # there it is the beginning token, which sees no other
        assert np.ptp(logits, axis=0).min() > 1e-3


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        (("config.json",), "transformers"),
        (("config.json", "modules.json"), "sentence-transformers"),
        (("config.json", "adapter_config.json"), "peft"),
    ],
)
def test_a_layout_is_told_by_its_files(files: tuple[str, ...], layout: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    assert describe_layout(tmp_path) == layout


def test_a_head_in_fp32_does_not_round_under_autocast() -> None:
    from afina.models.heads import compute_in_fp32

    torch.manual_seed(0)
    linear, features = nn.Linear(16, 1), torch.randn(64, 16)
    wanted = linear(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = linear(features)
        compute_in_fp32(linear)
        found = linear(features)
    assert rounded.dtype == torch.bfloat16
    assert not torch.equal(rounded.float(), wanted)
    torch.testing.assert_close(found, wanted)
