"""Which languages the texts are in, by a sample of the longer ones.

py3langid is a small classifier that needs no network (`pip install 'afina[language]'`); without it nothing is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from afina.data.doctor.check import Check
from afina.data.doctor.finding import Finding
from afina.data.doctor.found_rows import FoundRows
from afina.data.doctor.subject import Batch, Subject
from afina.wording import count

TEXTS_LOOKED_AT = 1000
CHARACTERS_LEAST = 40
CHARACTERS_MOST = 500
SURE = 0.95
SHARE_LEAST = 0.03


class Languages(Check):
    """A second language in some of the rows."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.counts: Counter[str] = Counter()
        self.found: dict[str, FoundRows] = {}
        training = subject.training
        spread = np.linspace(0, len(training) - 1, 4 * TEXTS_LOOKED_AT) if len(training) else np.zeros(0)
        self.chosen = set(np.unique(spread.astype(np.int64)).tolist())

    def applies(self) -> bool:
        return find_spec("py3langid") is not None

    def look(self, batch: Batch) -> None:
        if batch.part != self.subject.training.name or self.looked_at >= TEXTS_LOOKED_AT:
            return
        for place, text in enumerate(batch.texts):
            is_fit = batch.start + place in self.chosen and len(text) >= CHARACTERS_LEAST
            if is_fit and self.looked_at < TEXTS_LOOKED_AT:
                language = name_language(text[:CHARACTERS_MOST])
                self.counts[language] += 1
                self.found.setdefault(language, FoundRows(self.subject)).add(batch, place)

    @property
    def looked_at(self) -> int:
        """Texts so far."""
        return sum(self.counts.values())

    def facts(self) -> dict[str, Any]:
        """Texts of the sample by language; those of which the classifier isn't sure count as `?`."""
        return {"languages": dict(self.counts.most_common())} if self.counts else {}

    def findings(self) -> Iterator[Finding]:
        known = [(name, rows) for name, rows in self.counts.most_common() if name != "?"]
        others = [(name, rows) for name, rows in known[1:] if rows >= max(3, SHARE_LEAST * self.looked_at)]
        if others:
            listed = ", ".join(f"{name} {rows / self.looked_at:.0%}" for name, rows in [known[0], *others])
            yield self.found[others[0][0]].describe(
                "languages",
                "hint",
                f"the texts are in more than one language: {listed} of a sample of {count(self.looked_at, 'text')}",
                "a model that knows one language learns little of the others, and figures mix them",
                "take a multilingual model, or the rows of one language",
            )


def name_language(text: str) -> str:
    """The code of the language, such as `es`; `?` where it isn't sure."""
    language, probability = load_classifier().classify(text)
    return str(language) if probability >= SURE else "?"


@cache
def load_classifier() -> Any:
    """py3langid's classifier, whose probabilities add up to one."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
