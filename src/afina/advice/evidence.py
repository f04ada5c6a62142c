"""What can be known of a data set and a model before anything but a head has learned.

Every row is scored by a head (on frozen features) and by a plain linear model (on word counts) that never saw it, each
trained on growing shares of the rows. Letters: N rows, H width, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from afina.evaluation.linear import fit_linear
from afina.evaluation.prediction import Kind, UntrainableError
from afina.metrics.classification import score_classification
from afina.metrics.multilabel import DEFAULT_THRESHOLD, score_multilabel
from afina.metrics.probabilities import sigmoid, softmax
from afina.metrics.regression import score_regression
from afina.models import probe

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

SHARES = (0.25, 0.5, 1.0)
# Each costs a vocabulary and a fit, so the words are looked at through fewer folds than the features.
FOLDS_OF_WORDS = 2
SKILLS: dict[str, str] = {"multiclass": "accuracy", "multilabel": "f1_micro", "regression": "r2"}


@dataclass(frozen=True)
class Evidence:
    """Scores are those of `skill`, 1 for a model that is always right, on rows that the scored model never saw."""

    kind: str
    skill: str
    """`accuracy`, `f1_micro` or `r2`."""
    rows: int
    """Training rows."""
    rows_per_class: float
    """Mean over the classes; for numbers, all rows."""
    floor: float
    """Score of the answer that ignores the text."""
    curve: tuple[tuple[int, float], ...]
    """Training rows and score of the head on frozen features, the last with all rows of the sample."""
    learned: float
    """Score of that head on the rows it learned from."""
    words: float | None
    """Score of word counts and a linear model; None where they can't be trained."""
    features: float
    """Score of the head on the very rows that `words` was scored on."""
    compared: int
    """How many rows these are."""

    @property
    def probe(self) -> float:
        """The head's score with all rows."""
        return self.curve[-1][1]

    @property
    def lead_of_words(self) -> float:
        """How far words are ahead of features, in standard errors of the difference of two shares; 0 where unknown."""
        if self.words is None:
            return 0.0
        shares = [min(max(share, 0.01), 0.99) for share in (self.words, self.features)]
        error = (sum(share * (1 - share) for share in shares) / self.compared) ** 0.5
        return (self.words - self.features) / error

    def as_dict(self) -> dict[str, Any]:
        """For choice.json, and `choice` in report.json."""
        return {**asdict(self), "probe": self.probe}


def gather_evidence(
    features_NH: Floats, texts: Sequence[str], problem: probe.HeadProblem, inverse_strength: float, has_bias: bool
) -> Evidence:
    """The evidence of a training part, from at most `probe.ROWS_TO_CHOOSE_BY` of its rows."""
    rows = probe.choose_sample(len(problem.labels), problem.seed)
    small, sample_NH = problem.at(rows), features_NH[rows]
    skill = SKILLS[problem.kind]
    curve = tuple(measure_share(sample_NH, small, inverse_strength, has_bias, share) for share in SHARES)
    head = probe.fit_head(sample_NH, small, inverse_strength, has_bias)
    words, features, compared = compare_words(
        sample_NH, [texts[row] for row in rows], small, inverse_strength, has_bias
    )
    classes = problem.outputs if problem.kind != "regression" else 1
    positives = problem.labels.sum() if problem.kind == "multilabel" else len(problem.labels)
    return Evidence(
        problem.kind, skill, len(problem.labels), float(positives) / classes, measure_floor(small), curve,
        score(head.logits(sample_NH), small.labels, problem.kind), words, features, compared,
    )  # fmt: skip


def measure_share(
    features_NH: Floats, problem: probe.HeadProblem, inverse_strength: float, has_bias: bool, share: float
) -> tuple[int, float]:
    """Training rows of a fold, and the score of all rows when each fold learns from this share of its own."""

    def answer(train: Indices, held: Indices) -> Floats:
        return probe.fit_head(features_NH[train], problem.at(train), inverse_strength, has_bias).logits(
            features_NH[held]
        )

    logits_NC, learned_from = answer_out_of_fold(problem, answer, share)
    return learned_from, score(logits_NC, problem.labels, problem.kind)


def answer_out_of_fold(
    problem: probe.HeadProblem, answer: Callable[[Indices, Indices], Floats], share: float
) -> tuple[Floats, int]:
    """Logits (N, C) of all rows by models that never saw them, and the fewest rows that one learned from."""
    logits_NC = np.zeros((len(problem.labels), problem.outputs), np.float32)
    fewest = len(problem.labels)
    for train, held in probe.split_folds(problem):
        kept = take_share(train, share, problem.seed)
        logits_NC[held] = answer(kept, held)
        fewest = min(fewest, len(kept))
    return logits_NC, fewest


def take_share(rows: Indices, share: float, seed: int) -> Indices:
    """A seeded share of the rows; a smaller share lies within a larger one."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(rows))
    return np.sort(rows[order[: max(2, round(share * len(rows)))]])


def compare_words(
    features_NH: Floats, texts: Sequence[str], problem: probe.HeadProblem, inverse_strength: float, has_bias: bool
) -> tuple[float | None, float, int]:
    """Scores of the words and of the features on the same held-out rows, and how many these are."""
    said: list[Floats] = []
    felt: list[Floats] = []
    labels: list[Any] = []
    is_trained = True
    for train, held in first_folds(problem):
        head = probe.fit_head(features_NH[train], problem.at(train), inverse_strength, has_bias)
        felt.append(head.logits(features_NH[held]))
        labels.append(problem.labels[held])
        try:
            said.append(predict_from_words(texts, problem, train, held))
        except UntrainableError:
            is_trained = False
    truth = np.concatenate(labels)
    words = score(np.concatenate(said), truth, problem.kind) if is_trained else None
    return words, score(np.concatenate(felt), truth, problem.kind), len(truth)


def first_folds(problem: probe.HeadProblem) -> Iterator[tuple[Indices, Indices]]:
    """The first `FOLDS_OF_WORDS` folds."""
    for fold, rows in enumerate(probe.split_folds(problem)):
        if fold < FOLDS_OF_WORDS:
            yield rows


def predict_from_words(texts: Sequence[str], problem: probe.HeadProblem, train: Indices, held: Indices) -> Floats:
    """Logits (N, C) of word counts and a linear model for the held-out rows."""
    kind: Kind = problem.kind  # type: ignore[assignment]
    held_texts, train_texts = ([texts[row] for row in rows] for rows in (held, train))
    said = fit_linear(kind, train_texts, problem.labels[train], held_texts, problem.outputs, problem.seed)
    if problem.kind == "regression":
        return said.values.astype(np.float32).reshape(-1, 1)
    clipped_NC = np.clip(said.values, 1e-7, 1 - 1e-7)
    if problem.kind == "multiclass":
        return np.log(clipped_NC).astype(np.float32)
    # Odds against the label's own threshold, so that 0 is where it begins to be given.
    thresholds_C = np.clip(said.thresholds if said.thresholds is not None else DEFAULT_THRESHOLD, 1e-7, 1 - 1e-7)
    odds_NC = np.log(clipped_NC / (1 - clipped_NC)) - np.log(thresholds_C / (1 - thresholds_C))
    return odds_NC.astype(np.float32)


def score(logits_NC: Floats, labels: npt.NDArray[Any], kind: str) -> float:
    """The score that `SKILLS` names."""
    if kind == "regression":
        return score_regression(logits_NC[:, 0], labels)["r2"]
    if kind == "multilabel":
        halves_C = np.full(logits_NC.shape[1], DEFAULT_THRESHOLD)
        return score_multilabel(sigmoid(logits_NC.astype(np.float64)), labels, halves_C)["f1_micro"]
    return score_classification(softmax(logits_NC.astype(np.float64)), labels)["accuracy"]


def measure_floor(problem: probe.HeadProblem) -> float:
    """The score of the most frequent answer, or of the mean."""
    if problem.kind == "multiclass":
        return float(np.bincount(problem.labels).max() / len(problem.labels))
    return 0.0
