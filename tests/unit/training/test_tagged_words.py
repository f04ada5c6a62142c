"""The loss of tagged words: that of transformers, the same however rows are divided into batches and windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from afina.data.encode_words import TaggedTokens, collate_words, encode_words
from afina.data.labels import LabelSpace
from afina.data.tags import TagArrays, join_offsets
from afina.models.load import load_classifier
from afina.tasks.base import TaskState
from afina.tasks.token_classification import TokenClassification
from afina.testing.data import make_tagged
from afina.training.inference import Inference
from afina.training.session import start_accelerator
from afina.training.tagged_words import TaggedWords, predict_words

NAMES = ("B-kitchen", "B-music", "B-weather", "I-kitchen", "I-music", "I-weather", "O")


@pytest.fixture
def objective(find_tokenizer: Callable[[str], Any], tmp_path: Path) -> TaggedWords:
    """Rows of several windows of 24 tokens each."""
    rows = make_tagged("words", 10)
    words = encode_words(find_tokenizer("bert"), [[row["tokens"] for row in rows]], 24, tmp_path)
    numbers = np.asarray([NAMES.index(tag) for row in rows for tag in row["tags"]], np.int32)
    tags: Any = TagArrays(numbers, join_offsets([len(row["tags"]) for row in rows]))
    part = TaggedTokens("train", words.tokens, tags, np.arange(1, 11), words)
    assert len(part) > 10
    return TaggedWords(TokenClassification(LabelSpace("entities", NAMES)), TaskState(), part, part, 0, 64)


@pytest.fixture
def model(tiny_models: Callable[[str], Path]) -> Any:
    head = {"num_labels": len(NAMES), "id2label": dict(enumerate(NAMES))}
    torch.manual_seed(0)
    return load_classifier(tiny_models("bert"), head, 0, dropout=0.0, of_words=True).model


def test_the_loss_is_that_of_transformers(objective: TaggedWords, model: Any) -> None:
    windows = np.arange(6)
    batch, places = collate_words(objective.train.words, windows, 0)
    labels = torch.full(batch["input_ids"].shape, -100)
    labels.view(-1)[places] = torch.from_numpy(objective.take_tags(windows))
    wanted = float(model(**batch, labels=labels).loss.detach())
    found = objective.sum_losses(model, windows, start_accelerator("cpu", "fp32")) / objective.weigh(windows)
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("weights", [(), (0.5, 0.7, 1.0, 1.3, 1.5, 1.8, 2.0)])
def test_small_batches_are_one_large(objective: TaggedWords, model: Any, weights: tuple[float, ...]) -> None:
    objective = replace(objective, state=TaskState(class_weights=weights))
    accelerator, gradients = start_accelerator("cpu", "fp32"), []
    for window in ([[0, 1, 2, 3, 4, 5, 6]], [[0], [1, 2, 3], [4, 5], [6]]):
        total = sum(objective.weigh(np.asarray(rows)) for rows in window)
        for rows in window:
            (objective.sum_losses(model, np.asarray(rows), accelerator) / total).backward()  # type: ignore[no-untyped-call]
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).clone())
        model.zero_grad(set_to_none=True)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)


def test_words_keep_their_order_whatever_the_batches(objective: TaggedWords, model: Any) -> None:
    small, large = (
        predict_words(model, objective.train.words, Inference(0, size, "cpu", "fp32")) for size in (1, 100_000)
    )
    assert small.shape == (len(objective.train.tags.tags), len(NAMES))
    np.testing.assert_allclose(small, large, atol=1e-4)


def test_rows_are_named_once(objective: TaggedWords) -> None:
    windows = np.flatnonzero(objective.train.words.rows == 3)
    assert list(objective.name_rows(windows)) == [4]


def test_scores_of_the_validation_part_have_a_loss(objective: TaggedWords, model: Any) -> None:
    scores = objective.evaluate(model, start_accelerator("cpu", "fp32"))
    assert set(scores) == {"f1", "precision", "recall", "accuracy", "loss"}
    assert objective.rank(scores) == scores["f1"]
