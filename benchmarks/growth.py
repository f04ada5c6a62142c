"""Time and memory of whole runs over more and more tokens: both should grow with them, and no faster.

    python benchmarks/growth.py [--tokens 100000 1000000 10000000] [--plot growth.svg] [--json growth.json]

Each is `afina train --technique full`, one epoch of a tiny model over generated rows of about a hundred tokens, in a
process of its own: reading, splitting, tokenising, training, evaluating, saving. With a tiny model nearly all memory
beside a constant is what rows cost. `--plot` needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {
    "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error",
}  # fmt: skip

from processes import run_process

MIB = 2**20
# Bytes are tokens of the tiny model, a [CLS] and a [SEP] beside them.
ROW_TOKENS, MARKS = 100, 2
LABELS = ("praise", "complaint", "question", "order")
HELD_OUT_ROWS = 200


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[100_000, 300_000, 1_000_000, 3_000_000, 10_000_000])
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="afina-growth-") as name:
        folder = Path(name)
        build_model(folder)
        found = [measure(tokens, folder) for tokens in given.tokens]
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if given.plot:
        draw(found, given.plot)


def build_model(folder: Path) -> None:
    """A tiny model, made by a process that has ended: see `run_process`."""
    code = f"from afina.testing.models import save_tiny_model as s; s('bert', {str(folder / 'bert')!r})"
    run_process([sys.executable, "-c", code], folder / "build")


def measure(tokens: int, folder: Path) -> dict[str, Any]:
    """Seconds and peak bytes of one run over so many training tokens."""
    data, rows = folder / f"data-{tokens}", tokens // ROW_TOKENS
    data.mkdir()
    for part, count in (("train", rows), ("validation", HELD_OUT_ROWS), ("test", HELD_OUT_ROWS)):
        write_rows(data / f"{part}.jsonl", count, part)
    work = folder / f"work-{tokens}"
    command = [
        sys.executable, "-m", "afina", "train", str(data), "--model", str(folder / "bert"), "--technique", "full",
        "--num-train-epochs", "1", "--output", str(work / "run"), "--quiet",
        "--set", "training.objective=cross-entropy", "--set", "training.head_init=random",
        "--set", "evaluation.baselines=false",
    ]  # fmt: skip
    _, seconds, peak_bytes = run_process(command, work)
    report = json.loads((work / "run" / "report.json").read_text(encoding="utf-8"))
    stages = report["stage_seconds"]
    print(f"{tokens:>12,} tokens {rows:>9,} rows {seconds:>8.1f} s {peak_bytes / MIB:>8,.0f} MiB", flush=True)
    return {"tokens": tokens, "rows": rows, "seconds": seconds, "peak_bytes": peak_bytes, "stage_seconds": stages}


def write_rows(path: Path, count: int, part: str) -> None:
    """Rows of `ROW_TOKENS` bytes, all of them different, within and between the parts."""
    chance = random.Random(part)
    words = [f"w{number}" for number in range(5000)]
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            label = chance.choice(LABELS)
            text = f"{number} {part} {label[0]} " + " ".join(chance.choices(words, k=ROW_TOKENS // 4))
            row = {"text": text[: ROW_TOKENS - MARKS], "label": label}
            file.write(json.dumps(row) + "\n")


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """Seconds and memory over tokens."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    millions = [each["tokens"] / 1e6 for each in found]
    for axis, values, unit in (
        (axes[0], [each["seconds"] for each in found], "seconds"),
        (axes[1], [each["peak_bytes"] / MIB for each in found], "MiB at the peak"),
    ):
        axis.plot(millions, values, marker="o")
        axis.set(xlabel="million tokens", ylabel=unit, ylim=(0, 1.1 * max(values)))
        axis.grid(alpha=0.3)
    figure.savefig(path)


if __name__ == "__main__":
    main()
