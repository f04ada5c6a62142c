"""Every tiny model loads with plain transformers, answers distinctly, and is what its family publishes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from afina.models.inspect import inspect_model
from afina.testing.models import DECODERS, ENCODERS, FAMILIES, MAX_POSITIONS, save_tiny_model

TEXTS = ("kettle and knife", "wörld — 日本 \n tab\t", "a")


def load_classifier(folder: Path) -> Any:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3).eval()


def test_families_are_split_into_encoders_and_decoders() -> None:
    assert len(FAMILIES) == 16
    assert set(ENCODERS) | set(DECODERS) == set(FAMILIES)
    assert not set(ENCODERS) & set(DECODERS)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_finite_and_distinct(family: str, tiny_models: Callable[[str], Path]) -> None:
    folder = tiny_models(family)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = load_classifier(folder)
    with torch.no_grad():
        logits_NC = torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS])
    assert logits_NC.shape == (3, 3)
    assert logits_NC.isfinite().all()
    assert logits_NC.std(0).min() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_no_weight_is_constant(family: str, tiny_models: Callable[[str], Path]) -> None:
    """A bias of zeros or a norm of ones would hide that it was forgotten."""
    spreads = {name: t.std() for name, t in load_file(tiny_models(family) / "model.safetensors").items()}
    assert not {name: spread for name, spread in spreads.items() if spread < 0.05}


@pytest.mark.parametrize("family", FAMILIES)
def test_facts_agree_with_the_loaded_model(family: str, tiny_models: Callable[[str], Path]) -> None:
    folder = tiny_models(family)
    facts = inspect_model(folder)
    checkpoint = getattr(transformers, FAMILIES[family].checkpoint).from_pretrained(folder)
    config = checkpoint.config
    assert facts.parameters == sum(p.numel() for p in checkpoint.parameters())
    assert facts.bytes == 4 * facts.parameters
    assert facts.dtypes == ("float32",)
    assert facts.architecture == FAMILIES[family].architecture
    assert facts.model_type == config.model_type
    sizes = (config.hidden_size, config.num_hidden_layers, config.vocab_size)
    assert (facts.hidden_size, facts.layers, facts.vocab_size) == sizes
    assert facts.files == (folder / "model.safetensors",)


@pytest.mark.parametrize("family", FAMILIES)
def test_max_positions_is_the_longest_row_that_works(
    family: str, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tiny_models(family)
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del settings["model_max_length"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert inspect_model(tmp_path).max_positions == MAX_POSITIONS

    tokenizer = AutoTokenizer.from_pretrained(folder)
    row = tokenizer("x" * 500, truncation=True, return_tensors="pt")
    assert row["input_ids"].shape == (1, MAX_POSITIONS)
    with torch.no_grad():
        assert load_classifier(folder)(**row).logits.isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizer_gives_texts_back_and_marks_pairs(family: str, tiny_models: Callable[[str], Path]) -> None:
    specials = FAMILIES[family].specials
    tokenizer = AutoTokenizer.from_pretrained(tiny_models(family))
    for text in TEXTS:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert len(tokenizer) == specials.vocab_size
    assert {role: getattr(tokenizer, role) for role in specials.roles} == specials.roles
    pair = tokenizer("ab", "cd")
    assert ("token_type_ids" in pair) == specials.token_types
    if specials.token_types:
        assert pair["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]
    assert (tokenizer.pad_token is None) == (family in ("gpt2", "llama", "mistral"))


@pytest.mark.parametrize("family", FAMILIES)
def test_specials_of_config_and_tokenizer_agree(family: str, tiny_models: Callable[[str], Path]) -> None:
    folder = tiny_models(family)
    config = transformers.AutoConfig.from_pretrained(folder)
    specials = FAMILIES[family].specials
    assert config.eos_token_id == specials.find_id("eos_token")
    pad = specials.find_id("pad_token") if family not in ("qwen2", "qwen3") else None
    assert config.pad_token_id == pad


def test_same_seed_gives_the_same_bytes_and_leaves_the_random_state(tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    folders = [save_tiny_model("bert", tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    first, again, other = [(folder / "model.safetensors").read_bytes() for folder in folders]
    assert first == again
    assert first != other
    assert torch.equal(state, torch.random.get_rng_state())
