"""Classes: names that are one class to a person, classes too small to learn or to score, and lopsided ones."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from afina.data.doctor.check import Check
from afina.data.doctor.finding import Finding, name_part
from afina.data.doctor.subject import View
from afina.data.split import Ints
from afina.wording import count

ROWS_LEAST = 5
"""Rows of a class below which a model hardly learns it."""
LOPSIDED, LARGE = 20, 0.3
"""Rows of the largest class for one of the smallest that can be learned, and its share, worth a hint together."""
MAJORITY = 0.95
"""Share of the largest class that is worth a warning."""
NAMES_SHOWN = 6


NUMBER = re.compile(r"([+-]?)0*([0-9]+)(?:\.0+)?")


def normalize_label(name: str) -> str:
    """The name without what makes no difference to a reader: case, white space, compatibility forms, and of a whole
    number a leading zero or a fraction of nothing. `1.10` isn't `1.1`: it may be a version.
    """
    plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    number = NUMBER.fullmatch(plain)
    return f"{number[1].removeprefix('+')}{number[2]}" if number else plain


def group_variants(counts: Mapping[str, int]) -> dict[str, str]:
    """Spellings of a class by the commonest of them, which is left out."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        groups[normalize_label(name)].append(name)
    best = {key: min(names, key=lambda name: (-counts[name], name)) for key, names in groups.items()}
    return {name: best[key] for key, names in groups.items() for name in names if name != best[key]}


def unify_classes(names: Sequence[str]) -> Ints:
    """For each class (C,) the first one that reads the same."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(normalize_label(name), i) for i, name in enumerate(names)], np.int64)


def count_classes(view: View, classes: int) -> np.ndarray:
    """Rows of each class (C,)."""
    if view.labels.ndim == 2:
        return view.labels.sum(axis=0, dtype=np.int64)
    return np.bincount(view.labels.astype(np.int64), minlength=classes)


def list_names(names: Iterable[str]) -> str:
    """Some names in quotes."""
    quoted = [repr(name) for name in names]
    return ", ".join(quoted[:NAMES_SHOWN]) + (
        f", and {len(quoted) - NAMES_SHOWN:,} more" if quoted[NAMES_SHOWN:] else ""
    )


class ClassCheck(Check):
    """A check of the classes."""

    reads_texts = False

    def applies(self) -> bool:
        return self.subject.kind in ("multiclass", "multilabel")

    def count(self, view: View) -> dict[str, int]:
        """Rows by name of the class."""
        names = self.subject.names
        return dict(zip(names, count_classes(view, len(names)).tolist(), strict=True))


class LabelVariants(ClassCheck):
    """One class under several names."""

    def findings(self) -> Iterator[Finding]:
        variants = group_variants(self.count(self.subject.training))
        if not variants:
            return
        spellings = ", ".join(f"{name!r} beside {best!r}" for name, best in list(variants.items())[:NAMES_SHOWN])
        rows = {
            name: view.number_rows(find_classes(self, view, set(variants))) for name, view in self.subject.views.items()
        }
        total = sum(map(len, rows.values()))
        yield Finding(
            "label-variants",
            "warning",
            f"labels that differ only in case, spaces or how a number is written: {spellings} ({count(total, 'row')})",
            "each spelling is a class of its own, and a model is wrong when it gives the other",
            "--fix OUT writes the commonest of each",
            total,
            {name: numbers for name, numbers in rows.items() if numbers},
        )


def find_classes(check: ClassCheck, view: View, names: set[str]) -> np.ndarray:
    """Which rows (N,) have a label with one of the names."""
    wanted = np.array([i for i, name in enumerate(check.subject.names) if name in names], np.int64)
    if view.labels.ndim == 2:
        return np.asarray(view.labels[:, wanted].any(axis=1))
    return np.isin(view.labels, wanted)


class SmallClasses(ClassCheck):
    """Classes with hardly a row to learn from."""

    def findings(self) -> Iterator[Finding]:
        training = self.subject.training
        counts = self.count(training)
        variants = group_variants(counts)  # which is another finding
        small = {name: rows for name, rows in counts.items() if 0 < rows < ROWS_LEAST and name not in variants}
        if small:
            listed = ", ".join(f"{name!r} ({rows})" for name, rows in list(small.items())[:NAMES_SHOWN])
            more = f", and {len(small) - NAMES_SHOWN:,} more" if len(small) > NAMES_SHOWN else ""
            is_small = find_classes(self, training, set(small))
            yield Finding(
                "small-classes",
                "warning",
                f"{len(small):,} class{'' if len(small) == 1 else 'es'} with fewer than {ROWS_LEAST} rows in"
                f" {name_part(training.name)}: {listed}{more}",
                "a model hardly learns a class of a handful of rows, and no figure about it means anything",
                "add rows, join them with a kindred class, or leave them out",
                len(small),
                {training.name: training.number_rows(is_small)},
            )


class AbsentClasses(ClassCheck):
    """Classes that a held-out part lacks."""

    def findings(self) -> Iterator[Finding]:
        known = {name for name, rows in self.count(self.subject.training).items() if rows}
        for view in self.subject.held_out:
            absent = [name for name, rows in self.count(view).items() if not rows and name in known]
            if absent:
                yield Finding(
                    "absent-classes",
                    "warning" if 2 * len(absent) >= len(known) else "hint",
                    f"{len(absent):,} of {len(known):,} classes have no row in {name_part(view.name)}:"
                    f" {list_names(absent)}",
                    "nothing is known of how well these classes are told apart",
                    f"add rows of them to {name_part(view.name)}",
                    len(absent),
                )


class LopsidedClasses(ClassCheck):
    """One class that drowns the others."""

    def applies(self) -> bool:
        return self.subject.kind == "multiclass"

    def findings(self) -> Iterator[Finding]:
        training = self.subject.training
        counts = {name: rows for name, rows in self.count(training).items() if rows >= ROWS_LEAST}
        if len(counts) < 2:
            return
        largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        share = counts[largest] / len(training)
        if share >= MAJORITY or (share >= LARGE and counts[largest] >= LOPSIDED * counts[smallest]):
            yield Finding(
                "imbalance",
                "warning" if share >= MAJORITY else "hint",
                f"{largest!r} has {counts[largest]:,} rows ({share:.0%}), {smallest!r} has {counts[smallest]:,}",
                "a model that always says the commonest class looks good by accuracy; mind the F1, macro",
                "train with --class-weight balanced, or add rows of the rare classes",
                2,
            )
