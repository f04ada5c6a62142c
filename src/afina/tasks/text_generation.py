"""Scores of a language model: of the tokens that it should have said, and of the answers that it gives.

Letters: N rows, R resamples.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
INTERVAL = (2.5, 97.5)


def bootstrap_ratio(
    parts_N: npt.NDArray[Any], wholes_N: npt.NDArray[Any], resamples: int, seed: int
) -> tuple[float, float]:
    """95 % interval of sum(parts) / sum(wholes) when rows are drawn again: a row's tokens stay together."""
    random = np.random.Generator(np.random.PCG64(seed))
    weights_RN = random.multinomial(len(parts_N), np.full(len(parts_N), 1 / len(parts_N)), size=resamples)
    ratios_R = (weights_RN @ parts_N) / np.maximum(weights_RN @ wholes_N, 1)
    low, high = np.percentile(ratios_R, INTERVAL)
    return float(low), float(high)


def score_answers(answers: Sequence[str], references: Sequence[str]) -> tuple[dict[str, float], str]:
    """`exact_match`, and `chrf` and `rouge_l` (0 to 1) where their packages are installed; else a note that says so."""
    if not answers:
        return {}, ""
    scores = {"exact_match": float(np.mean([a.strip() == r.strip() for a, r in zip(answers, references, strict=True)]))}
    missing = [name for name in ("sacrebleu", "rouge_score") if importlib.util.find_spec(name) is None]
    if "sacrebleu" not in missing:
        from sacrebleu.metrics import CHRF

        scores["chrf"] = CHRF().corpus_score(list(answers), [list(references)]).score / 100
    if "rouge_score" not in missing:
        scores["rouge_l"] = mean_rouge(answers, references)
    note = f"answers are not scored by {' and '.join(missing)}: pip install 'afina[generation]'" if missing else ""
    return scores, note


def mean_rouge(answers: Sequence[str], references: Sequence[str]) -> float:
    """Mean F1 of the longest common subsequence of words."""
    from rouge_score.rouge_scorer import RougeScorer

    # Its own tokenizer keeps nothing but a to z and digits, which would cut Spanish words at their accents.
    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    pairs = zip(answers, references, strict=True)
    return float(np.mean([scorer.score(reference, answer)["rougeL"].fmeasure for answer, reference in pairs]))


class Words:
    """Splits a text into lower-case words, whatever their script."""

    def tokenize(self, text: str) -> list[str]:
        """The words."""
        import re

        return re.findall(r"\w+", text.lower())
