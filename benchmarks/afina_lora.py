"""afina's LoRA on a language model in a process of its own: `python afina_lora.py JOB` prints one line, see sft.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from afina.api import start
from afina.config.load import load_config
from equal_start import share_adapter_start
from step_clock import SilentNarrator


def main() -> None:
    """Train and print."""
    job = SimpleNamespace(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    share_adapter_start()
    flags: dict[str, Any] = {
        "technique": job.technique,
        "task": "text-generation",
        "seed": job.seed,
        "model.chat_template": "none",
        "model.max_seq_length": job.max_seq_length,
        "training.learning_rate": job.learning_rate,
        "training.num_train_epochs": 1,
        "training.lr_scheduler_type": "constant",
        "training.warmup_ratio": 0.0,
        "training.per_device_train_batch_size": job.batch_size,
        "training.early_stopping_patience": 0,
        "lora.target_modules": ["q_proj", "v_proj"],
        "evaluation.generation_samples": 0,
        "evaluation.general_text": False,
        "evaluation.bootstrap_resamples": 0,
    }
    folders = {"data.path": f"{job.rows}/data", "model.reference": job.model_folder, "output": f"{job.work}/run"}
    narrator = SilentNarrator(profiles=job.profile)
    run = start(load_config(None, {**flags, **folders}), folders["data.path"], narrator)
    clock = narrator.clock
    line = {"step_seconds": clock.step_seconds, "losses": clock.losses, "tokens": run.report["tokens"]["train"]["all"]}
    profile = narrator.profile.table if narrator.profile else None
    print(json.dumps({**line, "flags": flags, "profile": profile}))


if __name__ == "__main__":
    main()
