"""Labels whose name stands in the texts: a model then learns to look for the word."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from afina.data.doctor.check import Check
from afina.data.doctor.finding import Finding
from afina.data.doctor.found_rows import FoundRows
from afina.data.doctor.subject import Batch, Subject
from afina.data.split import normalize_text
from afina.wording import count

ROWS_LOOKED_AT = 20_000
CLASSES_MOST = 500
LETTERS_LEAST = 3
OWN_SHARE = 0.5
OTHER_SHARE = 0.1
ROWS_LEAST = 5


class LabelInText(Check):
    """Classes whose own rows name them, and other rows don't."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        names = {normalize_text(name): i for i, name in enumerate(subject.names)}
        self.classes = {name: i for name, i in names.items() if len(name) >= LETTERS_LEAST and not name.isdigit()}
        listed = "|".join(re.escape(name) for name in sorted(self.classes, key=len, reverse=True))
        self.pattern = re.compile(rf"(?<!\w)(?:{listed})(?!\w)") if listed else None
        self.rows_C, self.own_C, self.other_C = (np.zeros(len(subject.names), np.int64) for _ in range(3))
        self.named: dict[int, FoundRows] = {}
        self.looked_at = 0

    def applies(self) -> bool:
        return self.subject.kind == "multiclass" and bool(self.classes) and len(self.classes) <= CLASSES_MOST

    def look(self, batch: Batch) -> None:
        training = self.subject.training
        if batch.part != training.name or self.pattern is None:
            return
        end = batch.start + max(0, min(len(batch.texts), ROWS_LOOKED_AT - self.looked_at))
        labels = training.labels[batch.start : end].tolist()
        self.looked_at += len(labels)
        for place, label in enumerate(labels):
            self.rows_C[label] += 1
            for name in set(self.pattern.findall(normalize_text(batch.texts[place]))):
                named = self.classes[name]
                (self.own_C if named == label else self.other_C)[named] += 1
                if named == label:
                    self.named.setdefault(label, FoundRows(self.subject)).add(batch, place)

    def findings(self) -> Iterator[Finding]:
        others_C = self.rows_C.sum() - self.rows_C
        own_C, other_C = self.own_C / np.maximum(1, self.rows_C), self.other_C / np.maximum(1, others_C)
        is_telling_C = (own_C >= OWN_SHARE) & (other_C <= OTHER_SHARE) & (self.rows_C >= ROWS_LEAST)
        telling = np.flatnonzero(is_telling_C).tolist()
        if not telling:
            return
        listed = ", ".join(f"{self.subject.names[i]!r} in {own_C[i]:.0%} of its rows" for i in telling[:5])
        share = float(self.own_C[is_telling_C].sum() / max(1, self.looked_at))
        sample = f" (of the first {count(self.looked_at, 'row')})" if self.looked_at == ROWS_LOOKED_AT else ""
        yield self.named[telling[0]].describe(
            "label-in-text",
            "warning" if share >= OWN_SHARE else "hint",
            f"names of labels stand in the texts, and seldom in those of others: {listed}{sample}",
            "a model may learn to look for this word alone; the texts that come when it is used may not hold it",
            "take the label out of the texts if it was put there by what made the file",
        )
