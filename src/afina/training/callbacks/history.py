"""metrics.jsonl: one JSON line for every few steps, every evaluation and every incident, flushed as it is written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from afina.durable import open_private
from afina.training.events import Callback, Incident, TrainingPlan

# Keys, beside those of scores (`validation/loss`), that means and charts are made of.
COMPUTED = frozenset({"epoch", "learning_rate", "loss", "step"})
LARGEST = 1e15


class HistoryWriter(Callback):
    """Writes the lines; a resumed run first drops those of steps that will be taken again.

    A line holds the mean of the steps since the one before. A checkpoint may lie between two lines, so until the run
    ends the loss of every step stands in a second file, and a resumed run writes the means that it would have written.
    """

    def __init__(self, path: Path, every_steps: int, note: Callable[[str], None] = lambda text: None) -> None:
        self.path, self.note = path, note
        self.every_steps = every_steps
        self.steps = path.with_name(f".{path.name}.steps")
        self.first_step = 0
        self.losses: list[float] = []
        self.waiting: dict[Path, list[str]] = {}
        """Lines that met a full disk; they are written before the next one."""

    def on_train_begin(self, plan: TrainingPlan) -> None:
        self.first_step = plan.first_step
        kept = [line for line in read_history(self.path) if line["step"] <= plan.first_step]
        taken = [line for line in read_history(self.steps) if line["step"] <= plan.first_step]
        for path, lines in ((self.path, kept), (self.steps, taken)):
            write_history(path, lines)
        said = max((line["step"] for line in kept if "loss" in line), default=0)
        self.losses = [line["loss"] for line in taken if line["step"] > said]
        # The last step is told of in any case: if it was skipped, by an incident.
        last = max((line["step"] for line in (*kept, *taken)), default=0)
        lacks_mean = any(line["step"] > said and line["step"] % self.every_steps == 0 for line in taken)
        if last < plan.first_step or lacks_mean:
            self.note(
                f"{self.path.name} is damaged: some of what it told of the first {plan.first_step:,} steps is lost, and"
                " so is that of the report's curves; the weights don't depend on it"
            )

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        self.losses.append(values["loss"])
        self.append({"step": step, "loss": values["loss"]}, self.steps)
        if step % self.every_steps == 0:
            mean = sum(self.losses) / len(self.losses)
            self.losses.clear()
            self.append(
                {"step": step, "epoch": values["epoch"], "loss": mean, "learning_rate": values["learning_rate"]}
            )

    def on_incident(self, step: int, incident: Incident) -> None:
        self.append({"step": step, "incident": incident.kind, **incident.values})

    def on_train_end(self, step: int, values: dict[str, Any]) -> None:
        self.steps.unlink(missing_ok=True)

    def on_evaluate_end(self, step: int, values: dict[str, float]) -> None:
        if step == self.first_step:  # a kill may have come between the line and the checkpoint that follows it
            lines = read_history(self.path)
            others = [line for line in lines if not is_evaluation(line, step)]
            if others != lines:
                write_history(self.path, others)
        self.append({"step": step, **values})

    def append(self, line: dict[str, Any], path: Path | None = None) -> None:
        """Add one line. A full disk doesn't end the run: what was begun is taken back, and written with a later line.

        Args:
            path: another file than that of the history.
        """
        path = path or self.path
        waiting = self.waiting.setdefault(path, [])
        waiting.append(json.dumps(line) + "\n")
        length = path.stat().st_size if path.exists() else 0
        try:
            with open(path, "a", encoding="utf-8", opener=open_private) as file:
                file.writelines(waiting)
            waiting.clear()
        except OSError:
            with suppress(OSError):
                os.truncate(path, length)


def write_history(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Replace the lines of a metrics.jsonl, all at once."""
    unfinished = path.with_name(f".{path.name}.tmp")
    with open(unfinished, "w", encoding="utf-8", opener=open_private) as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    os.replace(unfinished, path)


def is_evaluation(line: dict[str, Any], step: int) -> bool:
    """Whether a line holds the scores after so many steps."""
    return line["step"] == step and any(name.startswith("validation/") for name in line)


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl up to the first that is none: a kill may have cut the last one."""
    lines: list[dict[str, Any]] = []
    if path.exists():
        for text in path.read_bytes().splitlines():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                break
            if not is_line(line):
                break
            lines.append(line)
    return lines


def is_line(line: Any) -> bool:
    """Whether a value is what a run writes: a step, and numbers where it computes with them."""
    if not isinstance(line, dict) or not isinstance(line.get("step"), int):
        return False
    computed = (value for name, value in line.items() if name in COMPUTED or "/" in name)
    return all(isinstance(value, int | float) and not abs(value) > LARGEST for value in computed)
