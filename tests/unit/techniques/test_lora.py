"""Exactly the adapters and the new modules move; disabled, saved, restored and merged they give what they should."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from afina.errors import ConfigError
from afina.models.load import LoadedModel, load_tokenizer
from afina.techniques.base import count_parameters, describe_parameters, iterate_trainable
from afina.techniques.lora import Lora, choose_target_modules, list_adaptable_layers
from afina.testing.models import DECODERS, FAMILIES, LAYERS

QUERY_AND_VALUE = {
    **{name: ["query", "value"] for name in ("albert", "bert", "electra", "roberta", "xlm-roberta")},
    "deberta-v2": ["query_proj", "value_proj"],
    "distilbert": ["q_lin", "v_lin"],
    "modernbert": ["Wqkv"],
    "mpnet": ["q", "v"],
    **{name: ["q_proj", "v_proj"] for name in DECODERS},
    "gpt2": ["c_attn"],
    "phi3": ["qkv_proj"],
}
# Families that differ in their head, their layers or what is new; the others are built like one of these.
ONE_OF_EACH_KIND = ("albert", "deberta-v2", "distilbert", "modernbert", "roberta", "gpt2", "llama", "phi3")


def prepare(setup: Any) -> tuple[Any, tuple[str, ...]]:
    """The model with adapters, and the modules that are new."""
    torch.manual_seed(0)
    loaded = Lora().load(setup)
    return Lora().prepare(loaded, setup), loaded.new_modules


def move(model: nn.Module) -> None:
    """As if it had been trained: everything trainable gets other numbers."""
    torch.manual_seed(1)
    with torch.no_grad():
        for _, parameter in iterate_trainable(model):
            parameter.add_(torch.randn_like(parameter), alpha=0.3)


def owner(name: str) -> str:
    """Path, in the model as it was before, of the module that a parameter of peft's model belongs to."""
    return name.removeprefix("base_model.model.").split(".lora_")[0].replace(".modules_to_save.default", "")


def test_linear_layers_by_another_name_are_adapted() -> None:
    """Falcon's: its bias is added apart."""
    from transformers import FalconConfig, FalconForSequenceClassification

    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    loaded = LoadedModel(FalconForSequenceClassification(FalconConfig(**sizes)), ("score",))
    assert choose_target_modules(loaded, "auto").value == ["query_key_value"]


@pytest.mark.parametrize(
    ("family", "targets"), [*product(FAMILIES, ["auto"]), *product(ONE_OF_EACH_KIND, ["all-linear"])]
)
def test_adapters_and_new_modules_move_and_nothing_else(
    family: str, targets: str, make_setup: Callable[..., Any]
) -> None:
    setup = make_setup(family, "lora", lora={"r": 4, "target_modules": targets})
    loaded = Lora().load(setup)
    before = {name: parameter.numel() for name, parameter in loaded.model.named_parameters()}
    layers = list_adaptable_layers(loaded)
    wanted = [path for path in layers if targets == "all-linear" or path.rsplit(".", 1)[-1] in QUERY_AND_VALUE[family]]
    model = Lora().prepare(loaded, setup)
    moving = dict(iterate_trainable(model))
    adapters = {name for name in moving if ".lora_" in name}
    assert {owner(name) for name in adapters} == set(wanted)
    assert len(adapters) == 2 * len(wanted) >= 2 * (1 if family == "albert" else LAYERS)
    new = tuple(f"{name}." for name in loaded.new_modules)
    assert {owner(name) for name in moving.keys() - adapters} == {name for name in before if name.startswith(new)}
    assert all(".modules_to_save.default." in name for name in moving.keys() - adapters)
    # And all that stood there before is still there, and rests.
    still = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert sum(before.values()) == sum(dict(model.named_parameters())[name].numel() for name in still)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_query_and_the_value_get_adapters(family: str, make_setup: Callable[..., Any]) -> None:
    loaded = Lora().load(make_setup(family, "lora"))
    reason = choose_target_modules(loaded, "auto")
    assert reason.value == QUERY_AND_VALUE[family]
    assert reason.reason == f"query and value of {type(loaded.model).__name__}"


@pytest.mark.parametrize("family", ["bert", "gpt2", "phi3", "distilbert"])
def test_all_linear_layers_are_all_but_the_head(family: str, make_setup: Callable[..., Any]) -> None:
    wanted = {
        "bert": ["dense", "key", "query", "value"],
        "gpt2": ["c_attn", "c_fc", "c_proj"],
        "phi3": ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"],
        "distilbert": ["k_lin", "lin1", "lin2", "out_lin", "q_lin", "v_lin"],
    }
    assert choose_target_modules(Lora().load(make_setup(family, "lora")), "all-linear").value == wanted[family]


def test_names_that_are_given_are_taken_or_refused_with_the_nearest(make_setup: Callable[..., Any]) -> None:
    loaded = Lora().load(make_setup("bert", "lora"))
    assert choose_target_modules(loaded, ("query", "output.dense")).value == ["query", "output.dense"]
    with pytest.raises(ConfigError) as caught:
        choose_target_modules(loaded, ("query", "valeu", "q_proj"))
    assert str(caught.value) == (
        "lora.target_modules names layers that the model doesn't have: valeu, q_proj\n"
        "  found: dense, key, query, value\n"
        "  do: did you mean value?"
    )
    with pytest.raises(ConfigError) as caught:
        choose_target_modules(loaded, ("classifier",))
    assert str(caught.value) == (
        "lora.target_modules names layers that the model doesn't have: classifier\n"
        "  found: dense, key, query, value\n"
        "  do: --set lora.target_modules=auto"
    )


def make_odd(**layers: nn.Module) -> LoadedModel:
    """A model of these modules and a new head."""
    model: Any = nn.Module()
    for name, layer in layers.items():
        model.add_module(name, layer)
    model.score = nn.Linear(2, 2)
    return LoadedModel(model, ("score",))


class Router(nn.Linear):
    """As some of transformers' do it: a linear layer that gives more than a product."""

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        return hidden, hidden


def test_an_unknown_architecture_has_adapters_beside_every_linear_layer() -> None:
    reason = choose_target_modules(make_odd(mixer=nn.Linear(2, 2), gate=nn.Linear(2, 2)), "auto")
    assert reason.value == ["gate", "mixer"]
    assert reason.reason == "every linear layer: no query and value projections were found in Module"


def test_a_name_that_other_modules_have_too_is_a_whole_path() -> None:
    layers = nn.ModuleList([nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))])
    found = choose_target_modules(make_odd(layers=layers, up=nn.Linear(2, 2)), "all-linear")
    assert found.value == ["layers.0.0", "layers.1.0", "up"]


def test_what_computes_something_else_gets_no_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = make_odd(up=nn.Linear(2, 2), router=Router(2, 2), out_proj=nn.Linear(2, 2))
    assert list_adaptable_layers(loaded) == ["up", "router", "out_proj"]
    monkeypatch.setattr(Router, "__module__", "transformers.models.some.modeling_some")
    loaded.model.config = SimpleNamespace(model_type="mamba2")
    assert list_adaptable_layers(loaded) == ["up"]


def test_a_model_without_linear_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="Module has no linear layers that an adapter could stand beside"):
        choose_target_modules(make_odd(norm=nn.LayerNorm(2)), "all-linear")


@pytest.mark.parametrize("family", FAMILIES)
def test_training_begins_at_the_untouched_model_and_disabling_leads_back(
    family: str, make_setup: Callable[..., Any], compute_logits: Callable[..., Any]
) -> None:
    setup = make_setup(family, "lora", lora={"target_modules": "auto"})
    torch.manual_seed(0)
    loaded = Lora().load(setup)
    base = compute_logits(loaded.model, family, setup.pad_token_id)
    model: Any = Lora().prepare(loaded, setup)
    assert torch.equal(compute_logits(model, family, setup.pad_token_id), base)
    with torch.no_grad():
        for name, parameter in iterate_trainable(model):
            if ".lora_" in name:
                parameter.normal_()
    assert (compute_logits(model, family, setup.pad_token_id) - base).abs().max() > 0.05
    with model.disable_adapter():
        assert torch.equal(compute_logits(model, family, setup.pad_token_id), base)
    move(model)
    with model.disable_adapter():
        assert torch.equal(compute_logits(model, family, setup.pad_token_id), base)


@pytest.mark.parametrize("family", ONE_OF_EACH_KIND)
def test_saved_restored_and_merged_it_is_the_same_model(
    family: str, make_setup: Callable[..., Any], compute_logits: Callable[..., Any], tmp_path: Path
) -> None:
    setup = make_setup(family, "lora", lora={"r": 4})
    model, _ = prepare(setup)
    before = compute_logits(model, family, setup.pad_token_id)
    move(model)
    logits = compute_logits(model, family, setup.pad_token_id)
    assert (logits - before).abs().max() > 0.05
    Lora().save(model, load_tokenizer(setup.base), tmp_path)
    torch.manual_seed(99)  # the head that is drawn afresh must not be the one that counts
    restored = Lora().restore(tmp_path, setup)
    torch.testing.assert_close(compute_logits(restored, family, setup.pad_token_id), logits, rtol=0, atol=1e-6)
    torch.manual_seed(98)
    merged = Lora().merge(tmp_path, setup)
    assert not any("lora" in name or "modules_to_save" in name for name, _ in merged.named_parameters())
    assert merged.config.use_cache is True
    torch.testing.assert_close(compute_logits(merged, family, setup.pad_token_id), logits, rtol=1e-4, atol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    from transformers import AutoModelForSequenceClassification

    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(compute_logits(plain, family, setup.pad_token_id), logits, rtol=1e-4, atol=1e-4)


def test_the_folder_is_pefts(make_setup: Callable[..., Any], tmp_path: Path) -> None:
    setup = make_setup("bert", "lora")
    Lora().save(prepare(setup)[0], load_tokenizer(setup.base), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"
    ]  # fmt: skip


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_the_line_of_parameters_is_pefts(family: str, make_setup: Callable[..., Any], capsys: Any) -> None:
    model, _ = prepare(make_setup(family, "lora"))
    assert count_parameters(model) == model.get_nb_trainable_parameters()
    model.print_trainable_parameters()
    assert describe_parameters(model) == capsys.readouterr().out.strip()


def test_what_rests_is_bf16_and_what_moves_is_fp32(make_setup: Callable[..., Any]) -> None:
    model, _ = prepare(make_setup("deberta-v2", "lora", precision="bf16"))
    assert {parameter.dtype for _, parameter in iterate_trainable(model)} == {torch.float32}
    resting = {
        parameter.dtype
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad and "original_module" not in name
    }
    assert resting == {torch.bfloat16}


def test_settings_reach_the_adapters(make_setup: Callable[..., Any]) -> None:
    settings = {"r": 3, "lora_alpha": 12, "lora_dropout": 0.25}
    model, _ = prepare(make_setup("bert", "lora", lora=settings, training={"dropout": 0.5}))
    layer = model.base_model.model.bert.encoder.layer[0].attention.self.query
    assert layer.r["default"] == 3
    assert layer.scaling["default"] == 4.0
    assert layer.lora_dropout["default"].p == 0.25
    inner = {m.p for name, m in model.named_modules() if isinstance(m, nn.Dropout) and ".lora_dropout." not in name}
    assert inner == {0.5}


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_checkpointing_activations_changes_no_gradient(
    family: str, make_setup: Callable[..., Any], encode: Callable[..., Any]
) -> None:
    import numpy as np

    from afina.data.batches import collate_rows

    batch = collate_rows(encode(family, ["kettle", "snow in the west"]), np.arange(2), 0)
    found = []
    for checkpointing in (False, True):
        setup = make_setup(
            family, "lora", training={"gradient_checkpointing": checkpointing}, lora={"lora_dropout": 0.0}
        )
        model, _ = prepare(setup)
        move(model)
        assert model.train()(**batch).logits.square().sum().backward() is None
        assert any(getattr(m, "gradient_checkpointing", False) for m in model.modules()) == checkpointing
        found.append({name: parameter.grad for name, parameter in iterate_trainable(model)})
    assert found[0].keys() == found[1].keys()
    assert all(gradient is not None and gradient.any() for gradient in found[0].values())
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)
