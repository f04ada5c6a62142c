"""How far predictions of memory and time are from real runs, over a grid; and the factors of time, fitted to it.

    python benchmarks/advice.py grid --models MODELS --output advice.jsonl    each cell a run in a process of its own
    python benchmarks/advice.py summary advice.jsonl                          medians and worst cells
    python benchmarks/advice.py calibrate advice.jsonl --write                src/afina/advice/factors.py

MODELS is a folder with minilm-l6, multilingual-e5-small and smollm2-135m-instruct; models of other shapes are made
there with random weights, so that nothing is tuned to the three. `grid` goes on where it was stopped.
It prints at the end:

    memory  unmeasured: median 6 %, worst 14 %   measured: median 3 %, worst 9 %
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TECHNIQUES = ("full", "feature-extraction", "lora", "qlora")
LENGTHS, BATCHES = (32, 128, 384), (2, 8)
STEPS, HELD_OUT_ROWS = 4, 4
MAIN = ("minilm-l6", "smollm2-135m-instruct")
# Model, technique, tokens, rows, lengths: other shapes, which no factor was fitted to, and rows of many lengths.
OTHERS = [
    (model, technique, 128, 8, "equal")
    for model in ("multilingual-e5-small", "random-wide", "random-deep", "random-llama")
    for technique in TECHNIQUES
]
RAGGED = [
    (model, technique, 128, rows, "ragged")
    for model in MAIN
    for technique in ("full", "lora", "qlora")
    for rows in (8, 16)
]
# Steps of rows of many lengths: memory that fits no later batch takes some to pile up.
RAGGED_STEPS = 20
WORDS = (
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "then",
    "it",
    "saw",
    "one",
    "more",
    "big",
    "red",
    "dog",
    "run",
    "up",
    "hill",
)
# At least so much: no work is faster than the rate that was measured for it, however few cells say anything of it.
LEAST = {"products": 1.0, "attention": 1.0, "optimizer": 0.7, "unpacking": 1.0}
# An error of a step's time, as a share of it, beyond which a cell counts for less.
USUAL_MISS = 0.15


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    grid = commands.add_parser("grid")
    grid.add_argument("--models", type=Path, required=True)
    grid.add_argument("--output", type=Path, default=Path("advice.jsonl"))
    grid.add_argument("--measure", action="store_true", help="take real steps too, as afina plan --measure does")
    grid.add_argument("--most", type=int, default=None, help="cells to run at most")
    for name in ("summary", "calibrate"):
        commands.add_parser(name).add_argument("cells", type=Path)
    commands.choices["calibrate"].add_argument("--write", action="store_true")
    cell = commands.add_parser("cell")
    cell.add_argument("job", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "grid":
        run_grid(arguments)
    elif arguments.command == "cell":
        run_cell(json.loads(arguments.job.read_text(encoding="utf-8")))
    elif arguments.command == "summary":
        print_summary(read_cells(arguments.cells))
    else:
        calibrate(read_cells(arguments.cells), arguments.write)


def list_cells() -> list[tuple[str, str, int, int, str]]:
    """The grid in an order in which any beginning of it is a fair sample."""
    cells = [(m, t, length, rows, "equal") for m in MAIN for t in TECHNIQUES for length in LENGTHS for rows in BATCHES]
    cells += RAGGED
    random.Random(0).shuffle(cells)
    return [*cells, *OTHERS]


def run_grid(arguments: argparse.Namespace) -> None:
    """Run the cells that the output doesn't hold yet."""
    make_random_models(arguments.models)
    done = {tuple(cell["cell"]) for cell in read_cells(arguments.output)} if arguments.output.exists() else set()
    waiting = [cell for cell in list_cells() if cell not in done]
    for number, cell in enumerate(waiting[: arguments.most], 1):
        found = start_cell(arguments.models, cell, arguments.measure)
        with arguments.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
        memory, seconds = (describe_error(found, kind) for kind in ("memory", "seconds"))
        print(f"{number}/{len(waiting)} {cell}: memory {memory}, time of a step {seconds}", flush=True)
    print_summary(read_cells(arguments.output))


def start_cell(models: Path, cell: tuple[str, str, int, int, str], measure: bool) -> dict[str, Any]:
    """One run in a process of its own, with a cache of its own but for the machine's rates."""
    with tempfile.TemporaryDirectory(prefix="advice-") as work:
        job = {"model": str(models / cell[0]), "cell": cell, "folder": work, "measure": measure}
        path = Path(work) / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, __file__, "cell", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        if done.returncode:
            sys.exit(f"{cell}: {done.stderr[-2000:]}")
        return dict(json.loads(done.stdout.splitlines()[-1]))


def run_cell(job: dict[str, Any]) -> None:
    """Predict, train, and print both as one line of JSON."""
    import afina
    from afina.training import loop

    name, technique, length, rows, lengths = job["cell"]
    folder = Path(job["folder"])
    is_language_model = ("smollm" in name or "llama" in name) and technique != "feature-extraction"
    write_rows(folder / "data", length, rows, is_language_model, lengths == "ragged")
    settings = make_settings(length, rows, is_language_model)
    measured = measure(job, settings) if job["measure"] else None
    seconds: list[float] = []
    take_step = loop.train_step

    def take_timed_step(*given: Any) -> dict[str, float] | None:
        began = time.perf_counter()
        values = take_step(*given)
        seconds.append(time.perf_counter() - began)
        return values

    loop.train_step = take_timed_step
    run = afina.fit(job["model"], folder / "data", technique, output=folder / "run", verbose=False, **settings)
    report = run.report
    # Frozen features take no steps; their time is that of a pass over the training rows, a batch at a time.
    passes = report["stage_seconds"].get("features", 0.0) * STEPS * rows / (STEPS * rows + 2 * HELD_OUT_ROWS) / STEPS
    found = {
        "cell": job["cell"],
        "prediction": report["prediction"],
        "measured_prediction": measured,
        "peak_memory_bytes": report["peak_memory_bytes"],
        "step_seconds": float((np.mean if lengths == "ragged" else np.median)(seconds[1:])) if seconds else passes,
        "stage_seconds": report["stage_seconds"],
        "duration_seconds": report["duration_seconds"],
    }
    print(json.dumps(found))


def measure(job: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The technique's row of a plan that real steps have corrected."""
    import afina

    plan = afina.plan(Path(job["folder"]) / "data", job["model"], measure=True, technique=job["cell"][1], **settings)
    return next(row for row in plan.to_dict()["techniques"] if row["technique"] == job["cell"][1])


def make_settings(length: int, rows: int, is_language_model: bool) -> dict[str, Any]:
    """Settings of a short run without what is no part of the question."""
    settings: dict[str, Any] = {
        "num_train_epochs": 1, "per_device_train_batch_size": rows, "max_seq_length": length,
        "bootstrap_resamples": 0, "baselines": False,
    }  # fmt: skip
    if is_language_model:
        return settings | {"chat_template": "none", "generation_samples": 0, "general_text": False, "packing": False}
    return settings | {"features.cache": False}


def write_rows(folder: Path, length: int, rows: int, is_language_model: bool, is_ragged: bool) -> None:
    """Texts of more words than `length`, so that every row is cut there; ragged ones have an eighth of them or more."""
    folder.mkdir()
    draw = random.Random(0)

    def write(words: int) -> str:
        words = draw.randint(words // 8, words) if is_ragged else words
        return " ".join(draw.choice(WORDS) for _ in range(words))

    steps = RAGGED_STEPS if is_ragged else STEPS
    for part, count in (("train", steps * rows), ("validation", HELD_OUT_ROWS), ("test", HELD_OUT_ROWS)):
        lines = [
            {"prompt": write(length // 2), "completion": write(length)}
            if is_language_model else {"text": write(length), "label": "ab"[row % 2]}
            for row in range(count)
        ]  # fmt: skip
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def make_random_models(models: Path) -> None:
    """Models of other shapes beside the real ones, with the real ones' tokenizers."""
    shapes = {
        "random-wide": ("minilm-l6", "BertModel", {
            "hidden_size": 768, "num_hidden_layers": 3, "num_attention_heads": 12, "intermediate_size": 3072}),
        "random-deep": ("minilm-l6", "BertModel", {
            "hidden_size": 256, "num_hidden_layers": 16, "num_attention_heads": 4, "intermediate_size": 1024}),
        "random-llama": ("smollm2-135m-instruct", "LlamaForCausalLM", {
            "hidden_size": 384, "num_hidden_layers": 8, "num_attention_heads": 6, "num_key_value_heads": 6,
            "head_dim": 64, "intermediate_size": 1536, "tie_word_embeddings": False}),
    }  # fmt: skip
    for name, (base, kind, sizes) in shapes.items():
        if not (models / name / "model.safetensors").exists():
            make_random_model(models / base, models / name, kind, sizes)


def make_random_model(base: Path, folder: Path, kind: str, sizes: dict[str, Any]) -> None:
    """A folder with a model of these sizes and the tokenizer of another."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(base)
    config.update(sizes)
    getattr(transformers, kind)(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder)


def read_cells(path: Path) -> list[dict[str, Any]]:
    """The lines of the output."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def find_errors(cell: dict[str, Any], kind: str) -> dict[str, float]:
    """Predicted over true, less 1, by `unmeasured` and `measured`."""
    found = {}
    for name, prediction in (("unmeasured", cell["prediction"]), ("measured", cell["measured_prediction"])):
        if prediction and (kind == "memory" or prediction["step_seconds"]):
            predicted = prediction["memory_bytes"]["total"] if kind == "memory" else prediction["step_seconds"]
            found[name] = predicted / (cell["peak_memory_bytes"] if kind == "memory" else cell["step_seconds"]) - 1
    return found


def describe_error(cell: dict[str, Any], kind: str) -> str:
    """`unmeasured +3 % measured -1 %`."""
    return " ".join(f"{name} {error:+.0%}" for name, error in find_errors(cell, kind).items())


def print_summary(cells: Sequence[dict[str, Any]]) -> None:
    """Medians and worst cells of absolute errors."""
    for kind in ("memory", "seconds"):
        for group, chosen in group_cells(cells):
            parts = []
            for name in ("unmeasured", "measured"):
                errors = [(abs(e[name]), tuple(c["cell"])) for c in chosen if name in (e := find_errors(c, kind))]
                if errors:
                    worst = max(errors)
                    median = np.median([error for error, _ in errors])
                    parts.append(f"{name}: median {median:.1%}, worst {worst[0]:.0%} {worst[1]}")
            print(f"{kind:8} {group:22} {len(chosen):3} cells  {'   '.join(parts)}")


def group_cells(cells: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """All cells, those of each technique, and those of shapes that nothing was fitted to."""
    yield "all", list(cells)
    for technique in TECHNIQUES:
        yield technique, [cell for cell in cells if cell["cell"][1] == technique]
    yield "other shapes", [cell for cell in cells if cell["cell"][0] not in MAIN]
    yield "many lengths", [cell for cell in cells if cell["cell"][4] == "ragged"]


def calibrate(cells: Sequence[dict[str, Any]], write: bool) -> None:
    """The factors with the least relative errors of a step's time, for the kind of machine that this is.

    A cell that ran while the machine did something else is far off, so errors count by their size and not its square.
    A kind of work that no cell does keeps its factor.
    """
    from scipy.optimize import least_squares

    cells = [cell for cell in cells if cell["cell"][0] in MAIN]
    kinds = list(cells[0]["prediction"]["work"])
    terms = np.asarray([[cell["prediction"]["work"][kind] for kind in kinds] for cell in cells])
    true = np.asarray([cell["step_seconds"] for cell in cells])
    least = np.asarray([LEAST.get(kind, 0.0) for kind in kinds])
    known = read_factors(kinds)
    is_done = terms.any(axis=0)

    def miss(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.log(terms[:, is_done] @ values) - np.log(true)

    start = np.maximum(known, least + 1e-9)[is_done]
    found = known.copy()
    found[is_done] = least_squares(
        miss,
        start,
        bounds=(least[is_done], np.inf),
        x_scale=np.maximum(start, 1e-3),
        loss="soft_l1",
        f_scale=USUAL_MISS,
    ).x
    errors = np.abs(terms @ found / true - 1)
    print(f"{len(cells)} cells: median error {np.median(errors):.1%}, worst {errors.max():.0%}")
    values = ", ".join(f"{kind}={value:.3g}" for kind, value in zip(kinds, found, strict=True))
    print(values)
    if write:
        write_factors(values)


def find_name() -> str:
    """The factors of this kind of machine, as the source calls them."""
    from afina.training.precision import find_cpu_bf16_units

    return "WITH_AMX" if "AMX" in find_cpu_bf16_units() else "WITHOUT_AMX"


def read_factors(kinds: Sequence[str]) -> np.ndarray[Any, Any]:
    """The present factors, in the order of `kinds`."""
    from afina.advice import factors

    known = getattr(factors, find_name()).as_dict()
    return np.asarray([known[kind] for kind in kinds])


def write_factors(values: str) -> None:
    """Put the numbers into the source."""
    import re

    name = find_name()
    path = Path(__file__).parents[1] / "src" / "afina" / "advice" / "factors.py"
    text = path.read_text(encoding="utf-8")
    text = re.sub(rf"^{name} = Factors\([^)]*\)", f"{name} = Factors(\n    {values}\n)", text, flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
