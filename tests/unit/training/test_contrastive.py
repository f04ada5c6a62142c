"""The contrastive objective: its loss is what a slow loop gives, its pairs are of one class, its head is solved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from afina.data.encode import TokenArrays
from afina.data.encoded import EncodedPart
from afina.data.labels import LabelSpace
from afina.errors import ModelError
from afina.models.features import extract_features
from afina.models.heads import find_head, pool_otherwise
from afina.models.load import load_classifier
from afina.tasks.base import TaskState
from afina.tasks.text_classification import TextClassification
from afina.training.contrastive import ContrastiveRows, measure_pairs
from afina.training.objective import LabelledRows
from afina.training.session import start_accelerator

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 0])
NAMES = ("a", "b", "c")


@pytest.fixture
def objective() -> ContrastiveRows:
    """Nine rows of three classes; the third class has two, and each class words of its own."""
    random = np.random.default_rng(0)
    lengths = random.integers(3, 9, len(LABELS))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    words = [random.integers(5 + 10 * label, 15 + 10 * label, n) for label, n in zip(LABELS, lengths, strict=True)]
    tokens = TokenArrays(np.concatenate(words).astype(np.int32), offsets, None, 0, 0)
    part = EncodedPart("train", tokens, LABELS, np.arange(1, len(LABELS) + 1))
    task = TextClassification(LabelSpace("multiclass", NAMES))
    return ContrastiveRows(LabelledRows(task, TaskState(), part, part, 0, 256))


@pytest.fixture
def load(tiny_models: Callable[[str], Path]) -> Callable[..., Any]:
    """`load(family, pooling)`: a tiny classifier of three classes."""

    def build(family: str = "bert", pooling: str = "own") -> Any:
        head = TextClassification(LabelSpace("multiclass", NAMES)).head_shape().as_config()
        torch.manual_seed(0)
        model = load_classifier(tiny_models(family), head, 0, dropout=0.0).model
        return model if pooling == "own" else pool_otherwise(model, pooling)

    return build


def measure_slowly(features: torch.Tensor, labels: torch.Tensor) -> float:
    """The same loss, pair by pair."""
    near, far = [], []
    for i in range(len(labels)):
        for j in range(len(labels)):
            if i != j:
                cosine = float(torch.nn.functional.cosine_similarity(features[i], features[j], dim=0))
                (near if labels[i] == labels[j] else far).append(
                    (1 - cosine) ** 2 if labels[i] == labels[j] else cosine**2
                )
    return sum(near) / max(1, len(near)) + sum(far) / max(1, len(far))


@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1, 0], [0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5]])
def test_the_loss_is_what_a_slow_loop_gives(labels: list[int]) -> None:
    features = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    wanted = measure_slowly(features, torch.tensor(labels))
    assert float(measure_pairs(features, torch.tensor(labels))) == pytest.approx(wanted, rel=1e-5)


def test_partners_are_other_rows_of_the_class_and_a_function_of_the_seed(objective: ContrastiveRows) -> None:
    rows = np.arange(len(LABELS))
    torch.manual_seed(1)
    first = objective.draw_partners(rows)
    torch.manual_seed(1)
    assert (objective.draw_partners(rows) == first).all()
    assert (LABELS[first] == LABELS[rows]).all()
    assert (first != rows).all()
    drawn = set()
    for seed in range(50):
        torch.manual_seed(seed)
        drawn.add(int(objective.draw_partners(np.array([0]))[0]))
    assert drawn == {3, 6, 8}


def test_a_row_that_is_looked_at_by_itself_has_the_same_partner_and_both_are_named(objective: ContrastiveRows) -> None:
    torch.manual_seed(1)
    together = objective.draw_partners(np.arange(len(LABELS)))
    torch.manual_seed(1)
    assert objective.draw_partners(np.array([4])).tolist() == [together[4]]
    assert objective.name_rows(np.array([4])) == sorted([5, int(together[4]) + 1])
    for _ in range(10):  # later passes of the step, after whatever else was drawn in it
        torch.rand(3)
        assert (objective.draw_partners(np.arange(len(LABELS))) == together).all()


def test_a_row_without_another_of_its_class_is_its_own_partner(objective: ContrastiveRows) -> None:
    labels = np.array([0, 1, 1, 1, 1, 1, 1, 1, 1])
    part = EncodedPart("train", objective.labelled.train.tokens, labels, objective.labelled.train.row_numbers)
    alone = ContrastiveRows(LabelledRows(objective.labelled.task, TaskState(), part, part, 0, 256))
    assert alone.draw_partners(np.array([0])).tolist() == [0]


@pytest.mark.parametrize(
    ("family", "pooling"), [("bert", "own"), ("bert", "mean"), ("roberta", "own"), ("llama", "own")]
)
def test_the_backbone_moves_rows_of_a_class_together(
    family: str, pooling: str, objective: ContrastiveRows, load: Callable[..., Any]
) -> None:
    model, accelerator = load(family, pooling), start_accelerator("cpu", "fp32")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    head = find_head(model).weight.detach().clone()
    losses = []
    for step in range(30):
        torch.manual_seed(step)
        loss = objective.sum_losses(model, np.arange(len(LABELS)), accelerator) / len(LABELS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert torch.equal(find_head(model).weight, head)  # no pair says anything of the head
    assert objective.evaluate(model, accelerator)["accuracy"] == 1.0
    assert not torch.equal(find_head(model).weight, head)


def test_what_is_compared_is_what_the_head_reads(objective: ContrastiveRows, load: Callable[..., Any]) -> None:
    model, accelerator = load("llama"), start_accelerator("cpu", "fp32")
    model.eval()
    torch.manual_seed(3)
    rows = np.arange(4)
    loss = objective.sum_losses(model, rows, accelerator)
    torch.manual_seed(3)
    # In whatever order and halves: the loss is of all pairs.
    both = np.concatenate([rows, objective.draw_partners(rows)])
    tokens = objective.labelled.train.tokens
    features = extract_features(
        model, tokens, both, ("own",), pad_id=0, tokens_per_batch=256, device="cpu", precision="fp32"
    )["own"]
    wanted = 4 * measure_slowly(torch.from_numpy(features), torch.from_numpy(LABELS[both]))
    assert loss.item() == pytest.approx(wanted, rel=1e-4)


def test_no_head_is_solved_on_what_is_not_a_number(objective: ContrastiveRows, load: Callable[..., Any]) -> None:
    model = load("bert")
    with torch.no_grad():
        model.bert.embeddings.LayerNorm.weight[0] = torch.nan
    with pytest.raises(ModelError, match=r"\(part train\); NaN or infinities are in bert.embeddings.LayerNorm.weight"):
        objective.evaluate(model, start_accelerator("cpu", "fp32"))
