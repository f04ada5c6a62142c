"""What all entries of sft.py share, made once by a process of its own: `python sft_rows.py JOB`, which prints nothing.

Into the JOB's folder `rows` go train.jsonl, validation.jsonl and test.jsonl (each line a `prompt` and a `completion`),
ordered.jsonl (the training rows in the order in which afina takes them, so that a peer can take the same batches),
model/ (the model in Hugging Face layout) and setting.json.

Rows are made unless a file is given: sentences of the bundled sample, of lognormal length, 30 % of it prompt.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from afina.data.batches import order_training_batches
from afina.data.chat import encode_completion
from machine import describe_machine, list_versions, measure_matrix_peak

SENTENCES = Path(__file__).resolve().parent.parent / "examples" / "data" / "intents_en" / "train.jsonl"
MEDIAN_TOKENS, SPREAD, SHORTEST = 120, 0.6, 16
PROMPT_SHARE = 0.3
HELD_OUT_ROWS = 8
PACKAGES = ("afina", "torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "numpy")
# Read from the disk here, so that the first measurement doesn't pay for what the later ones find in memory.
IMPORTED = ("afina.pipeline.language.finish", "trl.trainer.sft_trainer")
# Shapes of published models, filled with random numbers: for speed on a GPU the numbers don't matter.
SHAPES: dict[str, dict[str, Any]] = {
    "llama-1b": {"hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 8192, "num_attention_heads": 32,
                 "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": True},
    "llama-8b": {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336, "num_attention_heads": 32,
                 "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False},
}  # fmt: skip


def main() -> None:
    """Write rows, model and setting."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(job["rows"])
    folder.mkdir(parents=True)
    model_folder = prepare_model(job, folder)
    tokenizer = load_tokenizer(model_folder)
    count = job["steps"] * job["batch_size"]
    wanted = count + HELD_OUT_ROWS
    rows = read_rows(job, wanted) if job["data"] else list(make_rows(tokenizer, wanted, job))
    rows, held_out = rows[:count], rows[count:]
    encoded = [encode_completion(tokenizer, row["prompt"], row["completion"]) for row in rows]
    lengths_N = np.asarray([min(len(each.ids), job["max_seq_length"]) for each in encoded], np.int64)
    batches = order_training_batches(lengths_N, job["batch_size"], job["seed"], 0)
    write_lines(folder / "data" / "train.jsonl", rows)
    write_lines(folder / "ordered.jsonl", [rows[row] for batch in batches for row in batch])
    for name in ("validation", "test"):
        write_lines(folder / "data" / f"{name}.jsonl", held_out)
    learned = [sum(each.loss_mask[: job["max_seq_length"]]) for each in encoded]
    setting = {
        "model_folder": str(model_folder), "tokens": int(lengths_N.sum()), "learned_tokens": sum(learned),
        "batch_tokens": [int(lengths_N[batch].sum()) for batch in batches],
        "longest": int(lengths_N.max()), "flop_per_step": count_flop(model_folder, lengths_N, sum(learned), job),
        **describe_hardware(),
    }  # fmt: skip
    (folder / "setting.json").write_text(json.dumps(setting, indent=2), encoding="utf-8")
    for name in IMPORTED:
        import_module(name)


def prepare_model(job: dict[str, Any], folder: Path) -> Path:
    """Folder of the model: its own, one made from a GGUF file, or a shape filled with random numbers."""
    from afina.models.gguf import convert_gguf, is_gguf
    from afina.models.resolve import resolve_model

    base = resolve_model(job["model"], allow_gguf=True)
    if is_gguf(base):
        base = convert_gguf(base, folder / "cache")
    return fill_shape(job["shape"], base, folder / "model") if job["shape"] else base


def fill_shape(name: str, base: Path, target: Path) -> Path:
    """A Llama of this shape in bf16, with the tokenizer of another model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[name], max_position_embeddings=8192, rope_theta=500000.0)
    torch.set_default_dtype(torch.bfloat16)
    LlamaForCausalLM(config).save_pretrained(target)
    torch.set_default_dtype(torch.float32)
    load_tokenizer(base).save_pretrained(target)
    return target


def load_tokenizer(folder: Path) -> Any:
    """The model's tokenizer, as afina loads it."""
    from afina.models.load import load_tokenizer as load

    return load(folder)


def read_rows(job: dict[str, Any], count: int) -> list[dict[str, str]]:
    """The first rows of a file that have a prompt and a completion."""
    with open(job["data"], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    kept = [{name: row[name] for name in ("prompt", "completion")} for row in rows if "completion" in row][:count]
    if len(kept) < count:
        sys.exit(f"{job['data']} has {len(kept)} rows with prompt and completion, {count} are needed")
    return kept


def make_rows(tokenizer: Any, count: int, job: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Rows of lognormal length from shuffled sentences."""
    random = np.random.Generator(np.random.PCG64(job["seed"]))
    sentences = [json.loads(line)["text"] for line in SENTENCES.read_text(encoding="utf-8").splitlines()]
    ids: list[int] = []
    for _ in range(count):
        length = int(np.clip(math.exp(random.normal(math.log(MEDIAN_TOKENS), SPREAD)), SHORTEST, job["max_seq_length"]))
        while len(ids) < length:
            ids += tokenizer(f"{sentences[random.integers(len(sentences))]}. ", add_special_tokens=False)["input_ids"]
        cut = max(1, round(PROMPT_SHARE * length))
        yield {"prompt": tokenizer.decode(ids[:cut]), "completion": tokenizer.decode(ids[cut : length - 1])}
        del ids[:length]


def count_flop(folder: Path, lengths_N: np.ndarray[Any, Any], learned: int, job: dict[str, Any]) -> float:
    """Floating point operations of a step that LoRA needs, as a mean over all steps.

    Two for each weight of the body and token forward and two backward (frozen weights have no gradient of their own),
    the same for the head at learned tokens, and attention's products over the visible half of each row. Adapters, norms
    and everything elementwise are left out.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    width, layers, heads = config.hidden_size, config.num_hidden_layers, config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or width // heads
    attention = width * head_dim * (2 * heads + 2 * config.num_key_value_heads)
    body = layers * (attention + 3 * width * config.intermediate_size)
    products = layers * heads * head_dim * float((lengths_N.astype(float) ** 2).sum())  # forward: 2 products, half seen
    return (4 * body * float(lengths_N.sum()) + 4 * width * config.vocab_size * learned + 6 * products) / job["steps"]


def describe_hardware() -> dict[str, Any]:
    """Device, format, machine, its matrix peak and the versions."""
    from afina.training.precision import choose_device, choose_precision

    device = choose_device("auto").value
    bf16 = choose_precision("auto", device).value == "bf16"
    peak = measure_matrix_peak(device, "bfloat16" if bf16 else "float32")
    machine = {**describe_machine(device), "matrix_peak_tflops": round(peak / 1e12, 2)}
    return {"device": device, "bf16": bf16, "machine": machine, "peak": peak, "versions": list_versions(PACKAGES)}


def write_lines(path: Path, rows: list[dict[str, str]]) -> None:
    """A JSON lines file."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
