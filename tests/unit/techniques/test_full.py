"""Full fine-tuning moves every weight, and its folder is an ordinary one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from afina.errors import ConfigError
from afina.models.load import load_tokenizer
from afina.techniques.base import check_pair, count_parameters, describe_parameters
from afina.techniques.full import Full
from afina.techniques.registry import TECHNIQUES, make_technique


@pytest.mark.parametrize("family", ["albert", "deberta-v2", "modernbert", "roberta", "gpt2", "llama"])
def test_every_weight_moves_and_the_folder_is_an_ordinary_one(
    family: str, make_setup: Callable[..., Any], compute_logits: Callable[..., Any], tmp_path: Path
) -> None:
    setup = make_setup(family, "full", precision="bf16")
    loaded = Full().load(setup)
    loaded.model.requires_grad_(False)
    model: Any = Full().prepare(loaded, setup)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    trainable, total = count_parameters(model)
    assert trainable == total == sum(parameter.numel() for parameter in model.parameters())
    assert describe_parameters(model) == f"trainable params: {total:,} || all params: {total:,} || trainable%: 100.0000"
    logits = compute_logits(model, family, setup.pad_token_id)
    Full().save(model, load_tokenizer(setup.base), tmp_path)
    torch.manual_seed(99)
    restored = Full().restore(tmp_path, setup)
    assert torch.equal(compute_logits(restored, family, setup.pad_token_id), logits)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    # Norms that a kernel computes sum in another order than transformers' own.
    torch.testing.assert_close(compute_logits(plain, family, setup.pad_token_id), logits, rtol=1e-5, atol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path)("kettle") == AutoTokenizer.from_pretrained(setup.base)("kettle")


def test_gradient_checkpointing_is_switched_on_if_asked_for(make_setup: Callable[..., Any]) -> None:
    for wanted in (False, True):
        setup = make_setup("bert", "full", training={"gradient_checkpointing": wanted})
        model: Any = Full().prepare(Full().load(setup), setup)
        assert model.bert.encoder.layer[0].gradient_checkpointing == wanted


@pytest.mark.parametrize("technique", ["full", "lora"])
@pytest.mark.parametrize("family", ["albert", "mpnet"])
def test_a_model_that_cannot_compute_again_is_refused_in_a_sentence(
    family: str, technique: str, make_setup: Callable[..., Any]
) -> None:
    setup = make_setup(family, technique, training={"gradient_checkpointing": True})
    made = make_technique(technique)
    with pytest.raises(ConfigError, match="can't compute activations again in the backward pass"):
        made.prepare(made.load(setup), setup)


@pytest.mark.parametrize("name", ["full", "feature-extraction"])
def test_there_is_nothing_to_merge(name: str, make_setup: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        make_technique(name).merge(tmp_path, make_setup("bert", name))
    assert str(caught.value) == (
        f"the result of {name} is one model already\n  found: {tmp_path}\n  do: use it as it is"
    )  # fmt: skip


def test_techniques_are_made_by_name() -> None:
    assert set(TECHNIQUES) == {"feature-extraction", "full", "lora", "qlora"}
    for name in TECHNIQUES:
        technique = make_technique(name)
        assert technique.name == name
        assert technique.traits.learns_by == ("solver" if name == "feature-extraction" else "gradient")


@pytest.mark.parametrize("name", ["feature-extraction", "full", "lora", "qlora"])
def test_a_pair_that_cannot_be_is_refused(name: str) -> None:
    technique = make_technique(name)
    for task in technique.tasks:
        check_pair(technique, task)
    with pytest.raises(ConfigError) as caught:
        check_pair(technique, "question-answering")
    assert str(caught.value) == (
        f"the technique {name} can't learn the task question-answering\n"
        f"  expected: {', '.join(sorted(technique.tasks))}"
    )


def test_feature_extraction_says_what_a_language_model_takes_instead() -> None:
    with pytest.raises(ConfigError) as caught:
        check_pair(make_technique("feature-extraction"), "text-generation")
    assert str(caught.value) == (
        "feature-extraction has no meaning for a language model: it learns what its own head says, and has no other\n"
        "  expected: lora (the usual choice), full (much data), qlora (little memory)\n"
        "  do: --technique lora"
    )
