"""The plan: one row for each technique, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from afina.advice.choose import Choice, guess_technique
from afina.advice.costs import Costs, CostSubject, as_dict
from afina.advice.fitting import USABLE, Remedy
from afina.advice.machine import KNOWN, Machine
from afina.wording import suit_reader

GIB = 2**30
HEADER = (
    "technique", "memory", "weights", "gradients", "optimizer", "activations", "loss", "overhead", "epoch", "in all",
    "disk", "trainable", "fits",
)  # fmt: skip


@dataclass(frozen=True)
class PlanRow:
    """What one technique would cost."""

    costs: Costs
    fits: bool
    remedy: Remedy | None
    """What would make it fit, where it doesn't."""
    is_measured: bool = False
    """Whether real steps have corrected the figures."""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        remedy = None
        if self.remedy:
            remedy = {"settings": self.remedy.settings, "memory_bytes": self.remedy.costs.memory.total}
        return {**as_dict(self.costs), "fits": self.fits, "measured": self.is_measured, "remedy": remedy}


@dataclass(frozen=True, repr=False)
class Plan:
    """What each technique would cost on a machine, before anything is trained."""

    subject: CostSubject
    rows: Sequence[PlanRow]
    model: str
    notes: Sequence[str]
    by_pairs: bool = False
    """Whether a backbone would be moved by pairs of rows."""

    def to_dict(self) -> dict[str, Any]:
        """Everything, in plain types."""
        workload, machine = self.subject.workload, self.subject.machine
        return {
            "model": self.model,
            "machine": {
                "name": machine.name, "device": machine.device, "memory_bytes": machine.memory_bytes,
                "described": machine.is_described,
            },
            "precision": self.subject.precision,
            "data": {
                "train_rows": workload.train_rows, "validation_rows": workload.validation_rows,
                "test_rows": workload.test_rows, "rows_tokenised": len(workload.lengths),
                "tokens_mean": float(workload.lengths.mean()), "tokens_longest": int(workload.lengths.max()),
            },
            "techniques": [row.as_dict() for row in self.rows],
            "first_guess": self.first_guess.as_dict() if self.first_guess else None,
            "notes": list(self.notes),
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"Plan({self.model!r}, {len(self.rows)} techniques; print it for the table)"

    def __str__(self) -> str:
        lines = [self.describe_rows(), self.describe_machine()]
        cells = [HEADER, *(list_cells(row) for row in self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(HEADER))]
        for row in cells:
            padded = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            lines.append("  ".join(padded).rstrip())
        remedies = map(suit_reader, self.describe_remedies())
        return "\n".join([*lines, *self.describe_times(), *remedies, *self.describe_guess(), *self.notes])

    @property
    def first_guess(self) -> Choice | None:
        """The technique to begin with; None where one was asked for, or none fits."""
        if len(self.rows) < 2:
            return None
        workload, by_name = self.subject.workload, {row.costs.technique: row for row in self.rows}
        learned = int(workload.lengths.mean() * workload.train_rows * workload.learned_fraction)
        adapter = by_name.get("lora")  # which finds no place in some models
        return guess_technique(
            workload.train_rows, learned, adapter.costs.trainable if adapter else 0, self.rows[0].costs.parameters,
            {name: row.fits for name, row in by_name.items()}, by_pairs=self.by_pairs,
            of_words=self.subject.blueprint.of_words,
        )  # fmt: skip

    def describe_guess(self) -> list[str]:
        """One line on what to begin with."""
        guess = self.first_guess
        return [f"first guess: {guess.technique}: {guess.reason}"] if guess else []

    def describe_rows(self) -> str:
        """One line on model and data."""
        workload = self.subject.workload
        known = len(workload.lengths)
        sample = f"{known:,} of them tokenised" if known < workload.train_rows else "all of them tokenised"
        return (
            f"{self.model}, {workload.train_rows:,} training rows, {sample}:"
            f" {workload.lengths.mean():.0f} tokens in the mean, {workload.lengths.max()} in the longest"
        )

    def describe_machine(self) -> str:
        """One line on the machine."""
        machine = self.subject.machine
        kind = "of" if machine.is_described else "free of"
        return f"{machine.name}: {format_size(machine.memory_bytes)} {kind} memory, {self.subject.precision}"

    def describe_times(self) -> list[str]:
        """Why times are unknown, where they are."""
        if self.subject.machine.rates is not None:
            return []
        unknown = f"times are unknown, as the speed of {self.subject.machine.name!r} is"
        return [f"{unknown}; a GPU by its name brings its speed: --device {', '.join(KNOWN)}"]

    def describe_remedies(self) -> list[str]:
        """What to change for each technique that doesn't fit; a clear word if none does."""
        lines = []
        for row in self.rows:
            if row.fits:
                continue
            if row.remedy is None:
                lines.append(f"{row.costs.technique} doesn't fit, whatever the batch size")
                continue
            peak = format_size(row.remedy.costs.memory.total)
            lines.append(f"{row.costs.technique} fits with {row.remedy.as_flags()}: {peak}, the same step")
        if not any(row.fits or row.remedy for row in self.rows):
            lines.append(describe_too_large(self.subject.machine, self.rows))
        return lines


def describe_too_large(machine: Machine, rows: Sequence[PlanRow]) -> str:
    """What to say where a model is too large for every technique."""
    least = min(rows, key=lambda row: row.costs.memory.needed)
    return (
        f"no technique fits: even {least.costs.technique} would take {format_size(least.costs.memory.needed)}, and"
        f" {format_size(int(USABLE * machine.memory_bytes))} may be used; take a smaller model, or a larger machine"
    )


def list_cells(row: PlanRow) -> tuple[str, ...]:
    """A row of the table."""
    costs, memory = row.costs, row.costs.memory
    parts = (
        memory.weights,
        memory.gradients,
        memory.optimizer,
        memory.activations,
        memory.loss,
        memory.overhead + memory.mapped,
    )
    durations = costs.durations
    times = ("unknown", "unknown") if durations is None else (durations.epoch, durations.total)
    fits = "yes" if row.fits else ("if changed" if row.remedy else "no")
    return (
        costs.technique, format_size(memory.total), *(format_size(part) for part in parts),
        *(each if isinstance(each, str) else format_seconds(each) for each in times), format_size(costs.disk.total),
        f"{costs.trainable:,}", fits,
    )  # fmt: skip


def format_size(size: int) -> str:
    """`1.21 GiB`, or `87 MiB` for less than a tenth of one; `-` for nothing."""
    if size == 0:
        return "-"
    return f"{size / GIB:.2f} GiB" if size >= GIB / 10 else f"{size / 2**20:.0f} MiB"


def format_seconds(seconds: float) -> str:
    """`42 s`, `12 min`, `3.4 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
