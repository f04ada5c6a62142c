"""The base is 4 bits, its guard holds, an evaluation leaves the gradient alone, and all else is as in LoRA."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM
from transformers.pytorch_utils import Conv1D

from afina.data.batches import collate_rows
from afina.errors import MissingExtraError
from afina.models.load import load_tokenizer
from afina.techniques.base import count_parameters, describe_parameters, iterate_trainable
from afina.techniques.lora import Lora
from afina.techniques.qlora import QLora, forbid_repacking

bitsandbytes = pytest.importorskip("bitsandbytes")

FAMILIES_TRIED = ("albert", "bert", "deberta-v2", "gpt2", "llama", "modernbert", "phi3", "roberta")


def prepare(setup: Any) -> Any:
    torch.manual_seed(0)
    return QLora().prepare(QLora().load(setup), setup)


def move(model: Any) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for _, parameter in iterate_trainable(model):
            parameter.add_(torch.randn_like(parameter), alpha=0.3)


def list_layers(model: Any) -> dict[str, Any]:
    return {name: module for name, module in model.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)}


@pytest.mark.parametrize("family", FAMILIES_TRIED)
def test_the_backbone_is_4_bits_and_guarded_and_adapters_and_new_modules_move(
    family: str, make_setup: Callable[..., Any]
) -> None:
    setup = make_setup(family, "qlora", lora={"r": 4, "target_modules": "all-linear"})
    plain = dict(Lora().load(setup).model.named_modules())
    loaded = QLora().load(setup)
    layers = list_layers(loaded.model)
    backbone = f"{loaded.model.base_model_prefix}."
    new = tuple(f"{name}." for name in loaded.new_modules)
    linear = {name for name, module in plain.items() if isinstance(module, torch.nn.Linear | Conv1D)}
    assert set(layers) == {name for name in linear if name.startswith(backbone) and ".pooler" not in name}
    assert len(layers) >= 4
    model = QLora().prepare(loaded, setup)
    quantised = list_layers(model)
    assert len(quantised) >= len(layers)
    assert {layer.support_avx512bf16_for_cpu for layer in quantised.values()} == {False}
    assert not any(name.startswith(new) for name in layers)
    moving = dict(iterate_trainable(model))
    assert {".lora_" in name or ".modules_to_save.default." in name for name in moving} == {True}
    assert {parameter.dtype for parameter in moving.values()} == {torch.float32}
    # peft counts the heads that it keeps a copy of; so do we.
    assert count_parameters(model) == model.get_nb_trainable_parameters()


def test_the_guard_is_set_on_every_layer_and_counted(make_setup: Callable[..., Any]) -> None:
    model = QLora().load(make_setup("bert", "qlora")).model
    layers = list_layers(model)
    for layer in layers.values():
        layer.support_avx512bf16_for_cpu = True
    assert forbid_repacking(model) == len(layers) == 12
    assert {layer.support_avx512bf16_for_cpu for layer in layers.values()} == {False}


def test_the_line_of_parameters_is_pefts(make_setup: Callable[..., Any], capsys: Any) -> None:
    model = prepare(make_setup("bert", "qlora"))
    model.print_trainable_parameters()
    assert describe_parameters(model) == capsys.readouterr().out.strip()
    assert count_parameters(model) == count_parameters(Lora().prepare(*pair(make_setup("bert", "lora"))))


def pair(setup: Any) -> tuple[Any, Any]:
    return Lora().load(setup), setup


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_evaluation_leaves_the_gradient_alone(
    family: str, precision: str, make_setup: Callable[..., Any], encode: Callable[..., Any]
) -> None:
    from afina.models.batched import autocast

    setup = make_setup(family, "qlora", precision=precision, lora={"lora_dropout": 0.0})
    model = prepare(setup)
    move(model)
    batch = collate_rows(encode(family, ["kettle", "snow in the west"]), np.arange(2), setup.pad_token_id)

    def measure() -> torch.Tensor:
        model.train()
        with autocast("cpu", precision):
            logits = model(**batch).logits.float()
        logits.square().sum().backward()
        gradient = torch.cat([parameter.grad.flatten() for _, parameter in iterate_trainable(model)])
        model.zero_grad(set_to_none=True)
        return gradient

    before = measure()
    assert before.abs().max() > 0
    model.eval()
    with torch.inference_mode(), autocast("cpu", precision):
        model(**batch)
    assert torch.equal(measure(), before)


@pytest.mark.parametrize("family", FAMILIES_TRIED)
def test_saved_restored_and_merged_it_is_the_same_model(
    family: str, make_setup: Callable[..., Any], compute_logits: Callable[..., Any], tmp_path: Path
) -> None:
    setup = make_setup(family, "qlora", lora={"r": 4})
    model = prepare(setup)
    before = compute_logits(model, family, setup.pad_token_id)
    move(model)
    logits = compute_logits(model, family, setup.pad_token_id)
    assert (logits - before).abs().max() > 0.05
    QLora().save(model, load_tokenizer(setup.base), tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    torch.manual_seed(99)
    restored = QLora().restore(tmp_path, setup)
    torch.testing.assert_close(compute_logits(restored, family, setup.pad_token_id), logits, rtol=0, atol=1e-6)
    merged = QLora().merge(tmp_path, setup)
    assert not list_layers(merged)
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.float32}
    torch.testing.assert_close(compute_logits(merged, family, setup.pad_token_id), logits, rtol=1e-3, atol=1e-3)
    merged.save_pretrained(tmp_path / "merged")
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())
    # What was merged is the 4-bit base, which differs from the full one.
    full = Lora().merge(tmp_path, setup)
    assert (compute_logits(full, family, setup.pad_token_id) - logits).abs().max() > 1e-3


def test_a_pooler_that_the_folder_does_not_hold_is_trained_in_full(
    make_setup: Callable[..., Any], compute_logits: Callable[..., Any], tmp_path: Path
) -> None:
    setup = make_setup("bert", "qlora")
    BertForMaskedLM(BertConfig.from_pretrained(setup.base)).save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(setup.base).save_pretrained(tmp_path / "base")
    setup = replace(setup, base=tmp_path / "base")
    loaded = QLora().load(setup)
    assert loaded.new_modules == ("classifier", "bert.pooler")
    model = QLora().prepare(loaded, setup)
    moving = {name for name, _ in iterate_trainable(model)}
    assert "base_model.model.bert.pooler.modules_to_save.default.dense.weight" in moving
    move(model)
    logits = compute_logits(model, "bert", setup.pad_token_id)
    QLora().save(model, load_tokenizer(setup.base), tmp_path / "out")
    torch.manual_seed(99)
    for again in (QLora().restore(tmp_path / "out", setup), QLora().merge(tmp_path / "out", setup)):
        torch.testing.assert_close(compute_logits(again, "bert", setup.pad_token_id), logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("double", [True, False])
def test_settings_reach_the_storage(kind: str, double: bool, make_setup: Callable[..., Any]) -> None:
    quantization = {"bnb_4bit_quant_type": kind, "bnb_4bit_use_double_quant": double}
    model = QLora().load(make_setup("bert", "qlora", quantization=quantization)).model
    state = next(iter(list_layers(model).values())).weight.quant_state
    assert (state.quant_type, state.nested) == (kind, double)


def test_without_the_package_its_extra_is_named(
    make_setup: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = make_setup("bert", "qlora")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "bitsandbytes" else find(name, *rest)
    )
    with pytest.raises(MissingExtraError) as caught:
        QLora().load(setup)
    assert str(caught.value) == (
        "the technique qlora needs the package 'bitsandbytes', which is not installed\n  do: pip install 'afina[qlora]'"
    )
