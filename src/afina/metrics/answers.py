"""Scores of the answers that a language model gives."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np


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
