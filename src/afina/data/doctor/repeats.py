"""Rows that stand twice, the same text with different labels, and texts that stand on both sides of a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from afina.data.doctor.check import Check
from afina.data.doctor.classes import unify_classes
from afina.data.doctor.finding import WORTHLESS_SHARE, Finding, name_part, show_share
from afina.data.doctor.subject import Bools, View, combine, find_repeats
from afina.data.split import Ints
from afina.data.usable_rows import Labels
from afina.wording import count

MANY_SHARE = 0.05
"""Share of repeated rows from which on they weigh enough to warn of."""


class LeakedRows(Check):
    """What is tested on was learned before."""

    reads_texts = False

    def findings(self) -> Iterator[Finding]:
        views = list(self.subject.views.values())
        for place, later in enumerate(views):
            for earlier in group_by_table(views[:place], later):
                is_shared = np.isin(later.inputs, np.concatenate([view.inputs for view in earlier]))
                if is_shared.any():
                    yield self._describe(earlier, later, is_shared)

    def _describe(self, earlier: Sequence[View], later: View, is_shared: Bools) -> Finding:
        found, what = int(is_shared.sum()), "text" if self.subject.is_labelled else "prompt"
        part, is_learned = name_part(earlier[0].name), earlier[0] is self.subject.training
        is_worthless = is_learned and self._share_known(earlier, later, is_shared) >= WORTHLESS_SHARE
        return Finding(
            "leaked-rows",
            "error" if is_worthless else "warning",
            f"{count(found, 'row')} of {name_part(later.name)} ({show_share(found / len(later))}) with a {what} that"
            f" stands in {part} too",
            "a model is scored on what it has learned by heart, so its figures flatter"
            if is_learned
            else "what is chosen by the former, such as the best checkpoint, looks better on the latter than it is",
            f"--fix OUT leaves these {what}s out of {part}",
            found,
            {later.name: later.number_rows(is_shared)},
            later.examples(is_shared),
        )

    def _share_known(self, earlier: Sequence[View], later: View, is_shared: Bools) -> float:
        """The share of `later` whose answer was seen: a prompt may have another answer, a text has one label."""
        if self.subject.is_labelled:
            return float(is_shared.mean())
        known = np.concatenate([combine(view.inputs, view.targets) for view in earlier])
        return float(np.isin(combine(later.inputs, later.targets), known).mean())


def group_by_table(views: Sequence[View], later: View) -> list[list[View]]:
    """The views by the table that they come from, other than that of `later`: parts of one table share no text."""
    groups: dict[int, list[View]] = {}
    for view in views:
        if view.part.table is not later.part.table:
            groups.setdefault(id(view.part.table), []).append(view)
    return list(groups.values())


class ConflictingRows(Check):
    """The same text, and another answer."""

    reads_texts = False

    def applies(self) -> bool:
        return self.subject.is_labelled

    def findings(self) -> Iterator[Finding]:
        for view in self.subject.views.values():
            if self.subject.kind == "regression":
                is_torn = find_far_apart(view.inputs, view.labels)
            else:
                is_torn = find_torn(view.inputs, self._unify(view))
            if is_torn.any():
                yield self._describe(view, is_torn)

    def _unify(self, view: View) -> Ints:
        """The targets, equal for classes that differ in their spelling alone."""
        if self.subject.kind != "multiclass":
            return view.targets
        return unify_classes(self.subject.names)[view.targets]

    def _describe(self, view: View, is_torn: Bools) -> Finding:
        found, share = int(is_torn.sum()), float(is_torn.mean())
        texts = count(len(np.unique(view.inputs[is_torn])), "text")
        differ = "numbers far apart" if self.subject.kind == "regression" else "more than one label"
        places = np.flatnonzero(is_torn)
        return Finding(
            "conflicting-labels",
            "error" if share >= WORTHLESS_SHARE else "warning",
            f"{texts} of {name_part(view.name)} with {differ}: {count(found, 'row')} ({show_share(share)})",
            "at least one label of each such text is wrong, and no model can give two",
            "decide which label is right; --fix OUT leaves all rows of such a text out",
            found,
            {view.name: view.number_rows(is_torn)},
            # Rows of one text beside each other.
            view.examples(places[np.argsort(view.inputs[places], kind="stable")]),
        )


class RepeatedRows(Check):
    """The same row again."""

    reads_texts = False

    def findings(self) -> Iterator[Finding]:
        for view in self.subject.views.values():
            is_again = find_repeats(combine(view.inputs, view.targets))
            found, share = int(is_again.sum()), float(is_again.mean()) if len(view) else 0.0
            if found:
                same = "text and label" if self.subject.is_labelled else "conversation"
                where = f"{name_part(view.name)} ({show_share(share)})"
                yield Finding(
                    "duplicate-rows",
                    "warning" if share >= MANY_SHARE else "hint",
                    f"{count(found, 'row')} of {where} with the {same} of an earlier one",
                    "what stands twice weighs twice, in what is learned and in the figures",
                    "--fix OUT keeps the first of each",
                    found,
                    {view.name: view.number_rows(is_again)},
                    view.examples(is_again),
                )


def find_torn(inputs: Ints, targets: Ints) -> Bools:
    """Which rows (N,) have a text that stands with another label too."""
    _, first = np.unique(combine(inputs, targets), return_index=True)
    texts, answers = np.unique(inputs[first], return_counts=True)
    return np.isin(inputs, texts[answers > 1])


def find_far_apart(inputs: Ints, numbers: Labels) -> Bools:
    """Which rows (N,) have a text that stands with numbers more than a standard deviation apart."""
    if not len(inputs):
        return np.zeros(0, bool)
    numbers_N = numbers.astype(np.float64)
    order_N = np.argsort(inputs, kind="stable")
    texts, starts = np.unique(inputs[order_N], return_index=True)
    spreads = np.maximum.reduceat(numbers_N[order_N], starts) - np.minimum.reduceat(numbers_N[order_N], starts)
    return np.isin(inputs, texts[spreads > numbers_N.std()])
