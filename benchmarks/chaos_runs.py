"""The runs that chaos.py kills: small and real, of every technique and both kinds of task, and what must be equal."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RUN = "run"
LABELLED, LANGUAGE = "rows.csv", "talks.jsonl"
# Dropout and a schedule, so that what is random and what depends on the step's number matters.
SHARED = {
    "precision": "fp32", "device": "cpu", "dropout": 0.1, "save_steps": 2, "logging_steps": 1, "baselines": "false",
    "bootstrap_resamples": 0, "lr_scheduler_type": "cosine", "per_device_train_batch_size": 4, "num_train_epochs": 3,
    "early_stopping_patience": 0, "learning_rate": 1e-3, "objective": "cross-entropy",
}  # fmt: skip
LANGUAGE_SHARED = SHARED | {"generation_samples": 2, "max_new_tokens": 8, "general_text": "false"}
# These hold seconds, dates or bytes of memory; what of a report must be equal is compared by itself.
UNEQUAL = {
    "README.md", "environment.json", "origin.json", "reasons.json", "report.html", "report.json", "search.json",
    "status.json",
}  # fmt: skip
STUDIES = {"study.db", "study.db-journal"}
OF_REPORT = ("metrics", "intervals", "kept_step", "history", "rows", "technique", "trainable_parameters")
OF_TRIAL = ("place", "technique", "settings", "state", "score")


@dataclass(frozen=True)
class Case:
    """One run to disturb."""

    name: str
    model: str
    data: str = LABELLED
    technique: str = ""
    """Empty for a search, which tries several."""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def is_search(self) -> bool:
        """Whether it is a search of three trials."""
        return not self.technique

    @property
    def start(self) -> list[str]:
        """Arguments of `afina` that begin it, in a folder beside the model and the data."""
        shared = LANGUAGE_SHARED if self.data == LANGUAGE else SHARED
        flags = [part for key, value in (shared | self.settings).items() for part in ("--set", f"{key}={value}")]
        verb = ["search"] if self.is_search else ["train"]
        how = ["--budget", "2h", "--trials", "4", "--techniques", "full,lora"] if self.is_search else ["--technique"]
        technique = [self.technique] if self.technique else []
        return [*verb, f"../{self.data}", "--model", f"../{self.model}", *how, *technique, "--output", RUN, *flags]

    @property
    def resume(self) -> list[str]:
        """Arguments of `afina` that go on with it."""
        return ["search", "--resume", RUN] if self.is_search else ["resume", RUN]

    @property
    def mark(self) -> str:
        """The file from which on it can be resumed."""
        return "search.json" if self.is_search else "config.yaml"


CASES = (
    Case("full", "bert", technique="full", settings={"gradient_accumulation_steps": 2}),
    Case("full, early stopping", "bert", technique="full",
         settings={"early_stopping_patience": 1, "num_train_epochs": 12, "learning_rate": 0.02, "save_total_limit": 1}),
    Case("full, by pairs", "bert", technique="full",
         settings={"objective": "contrastive", "pooling": "mean", "gradient_accumulation_steps": 2}),
    Case("lora", "bert", technique="lora", settings={"lora_dropout": 0.2, "max_steps": 25, "eval_steps": 4}),
    Case("qlora", "bert", technique="qlora", settings={"gradient_accumulation_steps": 3}),
    Case("feature-extraction", "bert", technique="feature-extraction"),
    Case("auto", "bert", technique="auto"),
    Case("language, full, by length", "llama", LANGUAGE, "full",
         {"packing": "false", "gradient_accumulation_steps": 2}),
    Case("language, lora, packed", "llama", LANGUAGE, "lora",
         {"packing": "true", "lora_dropout": 0.1, "max_seq_length": 96, "per_device_train_batch_size": 1}),
    Case("language, qlora", "llama", LANGUAGE, "qlora", {"packing": "true", "max_seq_length": 96}),
    Case("search", "bert", settings={"num_train_epochs": 2}),
)  # fmt: skip


def build_place(folder: Path) -> None:
    """Two tiny models and rows for them, in `folder`."""
    from afina.testing.data import make_conversations, make_rows
    from afina.testing.models import save_tiny_model

    for family in ("bert", "llama"):
        save_tiny_model(family, folder / family)
    rows = make_rows("multiclass", 60)
    with open(folder / LABELLED, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    lines = (json.dumps(row) + "\n" for row in make_conversations("completion", 40))
    (folder / LANGUAGE).write_text("".join(lines), encoding="utf-8")


def describe_end(run: Path) -> dict[str, Any]:
    """All of an ended run that must be equal: every file by its hash, and what its reports say beside times."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.is_file() and path.name not in UNEQUAL | STUDIES:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "report.json":
            report = read_json(path)
            found[name] = {key: report[key] for key in OF_REPORT if key in report}
        elif path.name == "search.json":
            search = read_json(path)
            trials = [{key: trial[key] for key in OF_TRIAL} for trial in search["trials"]]
            found[name] = {"trials": trials, "best": search["best"]["trial"], "test": search["test"]["winner"]}
        else:
            found[name] = "there"
    return found


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def list_differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Names of what differs, is missing or is too much."""
    return [
        f"{name}: {'missing' if name not in found else 'too much' if name not in expected else 'differs'}"
        for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)
    ]  # fmt: skip
