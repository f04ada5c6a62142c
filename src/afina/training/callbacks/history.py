"""metrics.jsonl: one JSON line for every few steps, every evaluation and every incident, flushed as it is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from afina.training.events import Callback, Incident, TrainingPlan


class HistoryWriter(Callback):
    """Writes the lines; a resumed run first drops those of steps that will be taken again."""

    def __init__(self, path: Path, every_steps: int) -> None:
        self.path = path
        self.every_steps = every_steps
        self.losses: list[float] = []

    def on_train_begin(self, plan: TrainingPlan) -> None:
        kept = [line for line in read_history(self.path) if line["step"] <= plan.first_step]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        self.losses.append(values["loss"])
        if step % self.every_steps == 0:
            mean = sum(self.losses) / len(self.losses)
            self.losses.clear()
            self.append(
                {"step": step, "epoch": values["epoch"], "loss": mean, "learning_rate": values["learning_rate"]}
            )

    def on_incident(self, step: int, incident: Incident) -> None:
        self.append({"step": step, "incident": incident.kind, **incident.values})

    def on_evaluate_end(self, step: int, values: dict[str, float]) -> None:
        if step == 0:  # whatever stands there is from a start that left no checkpoint
            self.path.write_text("", encoding="utf-8")
        self.append({"step": step, **values})

    def append(self, line: dict[str, Any]) -> None:
        """Add one line."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last line that was cut by a kill is left out."""
    lines: list[dict[str, Any]] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
    return lines
