"""Texts with next to nothing in them, and a text that is the same in every row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from afina.data.doctor.check import Check
from afina.data.doctor.finding import Finding
from afina.data.doctor.found_rows import FoundRows
from afina.data.doctor.subject import Batch, Subject
from afina.data.scripts import count_words
from afina.wording import count

MANY_SHARE = 0.05


class SameTexts(Check):
    """Nothing to tell rows apart by."""

    reads_texts = False

    def findings(self) -> Iterator[Finding]:
        training = self.subject.training
        if len(training) > 1 and len(np.unique(training.inputs)) == 1:
            yield Finding(
                "constant-text",
                "error",
                f"all {count(len(training), 'row')} have the same text",
                "there is nothing to learn from",
                f"--text-column NAME, if {self.subject.columns[0]!r} isn't the text",
                len(training),
                {training.name: training.number_rows(np.ones(len(training), bool))},
                training.examples(np.arange(1)),
            )


class ShortTexts(Check):
    """One word or less."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.wordless, self.single = FoundRows(subject), FoundRows(subject)
        self.total = sum(map(len, subject.views.values()))

    def applies(self) -> bool:
        return self.subject.is_labelled

    def look(self, batch: Batch) -> None:
        for place, text in enumerate(batch.texts):
            if len(text) < 40 and count_words(text) <= 1:
                is_word = any(map(str.isalnum, text))
                (self.single if is_word else self.wordless).add(batch, place)

    def findings(self) -> Iterator[Finding]:
        if self.wordless:
            yield self.wordless.describe(
                "wordless-text",
                "warning",
                f"{count(len(self.wordless), 'row')} without a letter or a digit",
                "there is hardly anything to learn from them",
                "leave them out, unless such rows come when the model is used",
            )
        if self.single:
            yield self.single.describe(
                "one-word-text",
                "warning" if len(self.single) >= MANY_SHARE * self.total else "hint",
                f"{count(len(self.single), 'row')} of one word",
                "one word seldom says enough for a label",
                "look at some of them: has something been cut off, or is it the wrong column?",
            )
