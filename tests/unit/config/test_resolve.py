"""Every `auto` becomes a value with its reason, and what was given stays."""

from __future__ import annotations

from typing import Any

import pytest

from afina.config.load import build_config
from afina.config.reason import Reason
from afina.config.resolve import FEW_ROWS, FEW_ROWS_PER_CLASS, Sizes, resolve_config
from afina.errors import ConfigError

BERT = Sizes(train_units=16_000, hidden_size=768, max_positions=512)


def resolve(sizes: Sizes = BERT, technique: str = "full", **sections: Any) -> tuple[Any, dict[str, Reason]]:
    config, reasons = resolve_config(build_config({"technique": technique, **sections}), sizes)
    return config, {reason.setting: reason for reason in reasons}


@pytest.mark.parametrize(
    ("wanted", "limit", "length", "reason"),
    [
        ("auto", 256, 256, "the model's limit"),
        ("auto", 512, 512, "the model's limit"),
        ("auto", 513, 512, "the usual limit: the longer a row, the more time and memory it takes"),
        ("auto", None, 512, "the usual limit: the longer a row, the more time and memory it takes"),
        (1000, 1000, 1000, "as given"),
        (1000, None, 1000, "as given"),
        (1000, 999, 999, "1000 was asked for, but the model can't take more than 999 tokens"),
    ],
)
def test_length(wanted: Any, limit: int | None, length: int, reason: str) -> None:
    config, reasons = resolve(Sizes(10, 32, limit), model={"max_seq_length": wanted})
    assert reasons["model.max_seq_length"] == Reason("model.max_seq_length", length, reason)
    assert config.model.max_seq_length == length


@pytest.mark.parametrize(
    ("technique", "width", "rate", "reason"),
    [
        ("full", 768, 5e-5, "5e-05 at a width of 768, in inverse proportion to the width 768"),
        ("full", 384, 1e-4, "5e-05 at a width of 768, in inverse proportion to the width 384"),
        ("full", 32, 2e-4, "5e-05 at a width of 768, in inverse proportion to the width 32"),
        ("full", 8192, 1e-5, "5e-05 at a width of 768, in inverse proportion to the width 8192"),
        ("lora", 768, 5e-4, "ten times that of full fine-tuning for a width of 768 (5e-05)"),
        ("qlora", 32, 2e-3, "ten times that of full fine-tuning for a width of 32 (0.0002)"),
    ],
)
def test_learning_rate(technique: str, width: int, rate: float, reason: str) -> None:
    config, reasons = resolve(Sizes(10, width, None), technique)
    assert reasons["training.learning_rate"] == Reason("training.learning_rate", rate, reason)
    assert config.training.learning_rate == rate


def test_a_rank_that_no_layer_has_is_told() -> None:
    reason = "as given, but layers are 32 wide: a rank above that costs memory and can express no more"
    assert resolve(Sizes(10, 32, None), "lora", lora={"r": 33})[1]["lora.r"] == Reason("lora.r", 33, reason)
    assert "lora.r" not in resolve(Sizes(10, 32, None), "lora", lora={"r": 32})[1]
    assert "lora.r" not in resolve(Sizes(10, 15, None), "full")[1]


@pytest.mark.parametrize(
    ("rows", "batch", "accumulation", "epochs", "reason"),
    [
        (16_000, 16, 1, 3, "the usual number; 1000 steps each"),
        (3_200, 16, 1, 3, "the usual number; 200 steps each"),
        (3_184, 16, 1, 4, "199 steps an epoch are few, so enough epochs for 600 steps, at most 20"),
        (3_185, 16, 1, 3, "the usual number; 200 steps each"),
        (6_400, 16, 4, 6, "100 steps an epoch are few, so enough epochs for 600 steps, at most 20"),
        (1, 16, 1, 20, "1 steps an epoch are few, so enough epochs for 600 steps, at most 20"),
    ],
)
def test_epochs(rows: int, batch: int, accumulation: int, epochs: int, reason: str) -> None:
    sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
    config, reasons = resolve(Sizes(rows, 768, 512), training=sizes)
    assert reasons["training.num_train_epochs"] == Reason("training.num_train_epochs", epochs, reason)
    assert config.training.num_train_epochs == epochs


def test_steps_stand_in_place_of_epochs() -> None:
    config, reasons = resolve(Sizes(100, 768, 512), training={"max_steps": 20, "num_train_epochs": 9})  # 7 an epoch
    assert config.training.num_train_epochs == 3
    assert reasons["training.num_train_epochs"].reason == (
        "max_steps=20 are that many of 7 steps, or a part, in place of the 9 that were asked for"
    )


def test_what_was_given_stays() -> None:
    given = {"learning_rate": 0.5, "num_train_epochs": 99, "dropout": 0.25}
    config, reasons = resolve(training=given, seed=3)
    assert {name: getattr(config.training, name) for name in given} == given
    assert config.seed == 3
    assert reasons["training.learning_rate"] == Reason("training.learning_rate", 0.5, "as given")
    assert reasons["training.num_train_epochs"] == Reason("training.num_train_epochs", 99, "as given")


def test_a_solved_head_has_neither_steps_nor_rate_to_explain() -> None:
    assert set(resolve(technique="full")[1]) == {
        "model.max_seq_length", "training.learning_rate", "training.num_train_epochs"
    }  # fmt: skip
    assert set(resolve(technique="feature-extraction")[1]) == {"model.max_seq_length"}


def test_resolving_twice_is_resolving_once() -> None:
    once, _ = resolve(technique="lora")
    twice, reasons = resolve_config(once, BERT)
    assert twice == once
    assert {reason.reason for reason in reasons} == {"as given"}


def test_a_reason_reads_as_a_sentence() -> None:
    assert str(Reason("seed", 4, "as given")) == "seed = 4: as given"


@pytest.mark.parametrize(
    ("rows", "classes", "objective"),
    [
        (100, 4, "contrastive"),
        (FEW_ROWS, 2, "contrastive"),
        (FEW_ROWS + 1, 2, "cross-entropy"),
        (FEW_ROWS_PER_CLASS * 100, 100, "contrastive"),
        (FEW_ROWS_PER_CLASS * 100 + 1, 100, "cross-entropy"),
        (100, 0, "cross-entropy"),
    ],
)
def test_few_rows_a_class_are_learned_by_pairs(rows: int, classes: int, objective: str) -> None:
    config, _ = resolve(Sizes(rows, 768, 512, classes))
    assert config.training.objective == objective
    assert resolve(Sizes(rows, 768, 512, classes), training={"objective": "cross-entropy"})[0].training.objective == (
        "cross-entropy"
    )


def test_pairs_need_fewer_steps() -> None:
    config, reasons = resolve(Sizes(160, 768, 512, 8))
    assert config.training.num_train_epochs == 10
    assert reasons["training.num_train_epochs"].reason == (
        "10 steps an epoch are few, so enough epochs for 100 steps, at most 50"
    )


def test_pairs_of_rows_without_one_class_each_are_refused() -> None:
    with pytest.raises(ConfigError, match="a contrastive objective needs rows with one class each"):
        resolve(Sizes(100, 768, 512, 0), training={"objective": "contrastive"})
