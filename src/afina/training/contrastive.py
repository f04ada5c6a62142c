"""A contrastive objective for few rows: texts of one class are drawn together, texts of two classes apart, and the head
is solved on the features that come of it.

A loss of the head alone learns little from a handful of rows: the head tells them apart before the backbone has moved.
Pairs are many more than rows, N (N - 1) / 2, and each says how the backbone should move. Over all pairs of a pass,

    loss = mean over pairs of one class of (1 - cos)^2 + mean over pairs of two classes of cos^2

with cos the cosine of their features: the cosine-similarity loss of Reimers & Gurevych 2019, arXiv 1908.10084, over
pairs as in SetFit (Tunstall et al. 2022, arXiv 2209.11055), but over all pairs of the rows in a pass rather than over
pairs that are encoded for themselves.

Letters: N rows, B rows of a pass, H width of the features, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from afina.data.batches import Indices, collate_rows
from afina.data.encoded import EncodedPart
from afina.models.features import capture_own, check_finite, extract_features, pool_own
from afina.models.heads import find_head, set_head
from afina.models.probe import USUAL_INVERSE_STRENGTH, HeadProblem, choose_sample, fit_head
from afina.training.objective import LabelledRows
from afina.training.precision import precision_of
from afina.training.seed import derive_seed

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn


@dataclass(frozen=True)
class ContrastiveRows:
    """The objective of rows with one class each, by pairs. See `Objective`.

    Args:
        labelled: the same rows as the head sees them: their scores are those of a head solved on the features that the
            backbone gives at the time.
        inverse_strength: of that head.
    """

    labelled: LabelledRows
    inverse_strength: float = USUAL_INVERSE_STRENGTH
    partners: dict[int, int] = field(default_factory=dict)
    """The latest partner of each row."""
    # Few training rows come with few validation rows: the best of many evaluations on a dozen of them is mostly luck.
    chooses_best: ClassVar[bool] = False
    is_sum: ClassVar[bool] = False

    @property
    def lengths(self) -> Indices:
        return self.labelled.lengths

    @cached_property
    def rows_by_class(self) -> dict[int, Indices]:
        """The training rows of each class."""
        labels_N = self.labelled.train.labels
        return {int(label): np.flatnonzero(labels_N == label) for label in np.unique(labels_N)}

    def weigh(self, rows: Indices) -> float:
        return float(len(rows))

    def sum_losses(self, model: nn.Module, rows: Indices, accelerator: Accelerator) -> torch.Tensor:
        """The loss of all pairs among `rows` and one more row of the class of each, times the number of `rows`."""
        both = np.concatenate([rows, self.draw_partners(rows)])
        both = both[np.argsort(self.lengths[both], kind="stable")]
        # Partners are of any length: the shorter half and the longer one, each in a pass of its own, need less padding.
        halves = [half for half in np.array_split(both, 2) if len(half)]
        features_BH = torch.cat([self.read_features(model, half, accelerator) for half in halves])
        labels_B = torch.from_numpy(self.labelled.train.labels[both]).to(accelerator.device)
        return measure_pairs(features_BH, labels_B) * len(rows)

    def read_features(self, model: nn.Module, rows: Indices, accelerator: Accelerator) -> torch.Tensor:
        """What the head reads of the rows, with a gradient, shape (B, H) in fp32."""
        batch = collate_rows(self.labelled.train.tokens, rows, self.labelled.pad_id)
        batch = {name: tensor.to(accelerator.device) for name, tensor in batch.items()}
        with accelerator.autocast(), capture_own(model) as captured:
            model(**batch)
            return pool_own(captured["own"], batch["input_ids"], self.labelled.pad_id).float()

    def draw_partners(self, rows: Indices) -> Indices:
        """For each row another one of its class, or itself where the class has no other.

        One number decides for all, and it is a function of the seed that torch's generator was given for the step, not
        of what was drawn since: a row that is looked at again by itself has the same partner, whatever its pass was.
        """
        shift = derive_seed(torch.initial_seed(), "partners")
        partners = rows.copy()
        for place, row in enumerate(rows):
            others = self.rows_by_class[int(self.labelled.train.labels[row])]
            others = others[others != row]
            if len(others):
                partners[place] = others[(shift + int(row)) % len(others)]
        self.partners.update(zip(rows.tolist(), partners.tolist(), strict=True))
        return partners

    def evaluate(self, model: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """Scores of the validation part by a head solved on the training rows as the backbone sees them now; the model
        has that head from here on."""
        self.solve_head(model, accelerator, self.labelled.train)
        return self.labelled.evaluate(model, accelerator)

    def solve_head(self, model: nn.Module, accelerator: Accelerator, *parts: EncodedPart) -> None:
        """Give the model the head that is best on its present features of the parts' rows, or of a sample of many."""
        known, precision = self.labelled, precision_of(accelerator)
        features, labels = [], []
        for part in parts:
            rows = choose_sample(len(part), seed=0)
            found = extract_features(
                model, part.tokens, rows, ("own",), pad_id=known.pad_id, tokens_per_batch=known.eval_tokens_per_batch,
                device=accelerator.device.type, precision=precision,
            )  # fmt: skip
            check_finite(found, part.row_numbers[rows], part.name, model)
            features.append(found["own"])
            labels.append(part.labels[rows])
        linear = find_head(model)
        problem = HeadProblem("multiclass", np.concatenate(labels), linear.out_features, known.state.class_weights)
        set_head(linear, fit_head(np.concatenate(features), problem, self.inverse_strength, linear.bias is not None))

    def rank(self, scores: Mapping[str, float]) -> float:
        return self.labelled.rank(scores)

    def name_rows(self, rows: Indices) -> Sequence[int]:
        """Those of their latest partners too: what goes wrong in a pass may come from either."""
        partners = [self.partners.get(int(row), int(row)) for row in rows]
        return self.labelled.name_rows(np.unique(np.concatenate([rows, partners])))


def measure_pairs(features_BH: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    """The loss of all pairs, see above; a mean over no pairs is 0."""
    units_BH = torch.nn.functional.normalize(features_BH, dim=1)
    cosines_BB = units_BH @ units_BH.T
    is_pair_BB = ~torch.eye(len(labels_B), dtype=torch.bool, device=labels_B.device)
    is_same_BB = (labels_B[:, None] == labels_B) & is_pair_BB
    is_other_BB = (labels_B[:, None] != labels_B) & is_pair_BB
    near = ((1 - cosines_BB) ** 2 * is_same_BB).sum() / is_same_BB.sum().clamp(min=1)
    far = (cosines_BB**2 * is_other_BB).sum() / is_other_BB.sum().clamp(min=1)
    return near + far
