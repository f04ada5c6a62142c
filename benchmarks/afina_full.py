"""afina's full fine-tuning in a process of its own: `python afina_full.py JOB` prints one JSON line, see peers.py.

`afina.api.start` is `afina.fit` after its arguments were read; it is called here because it takes a listener, and a
listener is needed to time single steps.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from afina.api import start
from afina.config.load import load_config
from step_clock import SilentNarrator


def main() -> None:
    """Train and print."""
    job = SimpleNamespace(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    flags = {
        "technique": "full",
        "task": "text-classification",
        "seed": job.seed,
        "data.on_bad_rows": "drop",
        "training.objective": "cross-entropy",  # what the peers minimise, also where rows are few
        "training.learning_rate": job.learning_rate,
        "training.num_train_epochs": job.epochs,
        "training.per_device_train_batch_size": job.batch_size,
        "training.early_stopping_patience": 0,
        "evaluation.baselines": False,
        "evaluation.bootstrap_resamples": 0,
    }
    folders = {"data.path": job.data, "model.reference": job.model, "output": f"{job.work}/run"}
    narrator = SilentNarrator(profiles=job.profile)
    run = start(load_config(None, {**flags, **folders}), job.data, narrator)
    seconds = narrator.clock.step_seconds
    profile = narrator.profile.table if narrator.profile else None
    print(json.dumps({**describe_result(run.path, run.report, seconds, flags), "profile": profile}))


def describe_result(run: Path, report: dict[str, Any], seconds: list[float], flags: dict[str, Any]) -> dict[str, Any]:
    """The line; training is what the head's start on frozen features and the loop take together."""
    stages = report["stage_seconds"]
    return {
        "train_seconds": sum(stages.get(name, 0.0) for name in ("features", "solve", "train")),
        "step_ms": 1000 * statistics.median(seconds),
        "steps": len(seconds),
        "steps_timed": len(seconds),
        "extra_seconds": 0.0,
        "run": str(run),
        "predictions": None,
        "flags": flags,
    }


if __name__ == "__main__":
    main()
