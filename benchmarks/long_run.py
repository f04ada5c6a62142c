"""What grows with time and with size: memory over many steps, and over files of many bytes.

    python benchmarks/long_run.py steps                         # 20,000 steps of a tiny model
    python benchmarks/long_run.py steps --steps 2000 --every 100
    python benchmarks/long_run.py rows --megabytes 20 80        # a generated jsonl, checked, read and tokenised
    python benchmarks/long_run.py rows --megabytes 10240 --model REF   # 10 GB: hours; with REF's tokenizer, its words

`steps` prints the resident memory every 1,000 steps and what it has grown by since the first time; `rows` prints
seconds and the largest resident memory of `afina check` and of reading and tokenising, each in a process of its own.
`--json FILE` keeps the figures.
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

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from processes import run_process

MIB = 2**20
ROWS, BATCH = 360, 8
SENTENCES = 20_000
LABELS = ("praise", "complaint", "question", "order")


def watch_steps(steps: int, every: int, folder: Path) -> list[dict[str, float]]:
    """Train for so many steps; resident bytes after every `every`th."""
    import psutil

    from afina.api import start
    from afina.config.load import load_config
    from afina.pipeline.narrator import Narrator
    from afina.testing.data import make_rows
    from afina.testing.models import save_tiny_model
    from afina.training.events import Callback

    seen: list[dict[str, float]] = []
    process = psutil.Process()

    class Watcher(Callback):
        def on_step_end(self, step: int, values: dict[str, float]) -> None:
            if step % every == 0:
                seen.append({"step": step, "resident_bytes": process.memory_info().rss})
                grown = (seen[-1]["resident_bytes"] - seen[0]["resident_bytes"]) / MIB
                print(f"{step:>8,} {seen[-1]['resident_bytes'] / MIB:>8,.1f} MiB {grown:>+8.1f} MiB", flush=True)

    class Listener(Narrator):
        def callbacks(self) -> list[Callback]:
            return [Watcher()]

    rows = make_rows("multiclass", ROWS)
    steps_an_epoch = int(ROWS * 0.7) // BATCH  # the other rows are held out
    settings = {
        "technique": "full", "model.reference": str(save_tiny_model("bert", folder / "bert")),
        "output": str(folder / "run"), "training.num_train_epochs": -(-steps // steps_an_epoch),
        "training.per_device_train_batch_size": BATCH, "training.early_stopping_patience": 0,
        "training.dropout": 0.1, "training.precision": "fp32", "evaluation.baselines": False,
        "evaluation.bootstrap_resamples": 0,
    }  # fmt: skip
    print(f"{'step':>8} {'resident':>12} {'since then':>12}")
    start(load_config(None, settings), rows, Listener())
    return seen


def list_words(model: Path) -> list[str]:
    """The whole words of a tokenizer, one token each; a tiny one, which has few, splits made-up ones."""
    vocabulary = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    words = sorted(word for word in vocabulary if word.isalpha())
    return words if len(words) > 1000 else [f"w{number}" for number in range(20_000)]


def write_rows(path: Path, size_bytes: int, words: list[str]) -> int:
    """A jsonl of at least so many bytes, about 600 a row, written while it is made; gives its rows."""
    chance = random.Random(0)
    sentences = [" ".join(chance.choices(words, k=12)) for _ in range(SENTENCES)]
    written = rows = 0
    with open(path, "w", encoding="utf-8") as file:
        while written < size_bytes:
            text = f"{rows} " + ". ".join(chance.choices(sentences, k=8))
            written += file.write(json.dumps({"text": text, "label": chance.choice(LABELS)}) + "\n")
            rows += 1
    return rows


def load_and_encode(path: Path, model: Path, folder: Path) -> None:
    """Read, split and tokenise a file, as a run does; prints the rows and tokens of the training part."""
    from afina.config.run import DataConfig
    from afina.data.encode import encode_texts
    from afina.data.examples import load_examples
    from afina.data.read import read_parts
    from afina.models.load import load_tokenizer

    tables = read_parts(str(path), folder / "rows")
    examples = load_examples(str(path), DataConfig(), "text-classification", 0, tables)
    tokenizer = load_tokenizer(model)
    part = examples.parts["train"]
    tokens = encode_texts(tokenizer, part.texts(), 128, folder / "tokens")
    print(json.dumps({"rows": len(part), "tokens": len(tokens.ids)}))


def measure_rows(megabytes: int, model: Path, folder: Path) -> dict[str, Any]:
    """Seconds and peak bytes of checking, and of reading and tokenising, a file of this size."""
    path = folder / f"{megabytes}.jsonl"
    rows = write_rows(path, megabytes * MIB, list_words(model))
    found: dict[str, Any] = {"megabytes": megabytes, "rows": rows}
    load = [sys.executable, __file__, "load", str(path), str(model), str(folder / f"work-{megabytes}")]
    check = [sys.executable, "-m", "afina", "check", str(path), "--quiet", "--json"]
    for name, command in (("check", check), ("load", load)):
        _, seconds, peak_bytes = run_process(command, folder / f"{name}-{megabytes}")
        found[name] = {"seconds": seconds, "peak_bytes": peak_bytes}
        print(
            f"{megabytes:>8,} MB {rows:>12,} rows  {name:<6} {seconds:>8.1f} s  {peak_bytes / MIB:>7,.0f} MiB",
            flush=True,
        )
    path.unlink()
    return found


def build_model(folder: Path) -> Path:
    """A tiny model, made by a process that has ended: see `run_process`."""
    code = f"from afina.testing.models import save_tiny_model as s; s('bert', {str(folder / 'bert')!r})"
    run_process([sys.executable, "-c", code], folder / "build")
    return folder / "bert"


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["load"]:
        load_and_encode(*map(Path, sys.argv[2:5]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["steps", "rows"])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=1000)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[20, 80])
    parser.add_argument("--model", type=Path, help="folder of the model whose tokenizer is used (default: a tiny one)")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="afina-long-") as name:
        folder = Path(name)
        if given.what == "steps":
            found: Any = watch_steps(given.steps, given.every, folder)
        else:
            model = given.model or build_model(folder)
            found = [measure_rows(size, model, folder) for size in given.megabytes]
    if given.json:
        given.json.write_text(json.dumps({"what": given.what, "found": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
