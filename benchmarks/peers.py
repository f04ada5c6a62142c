"""One measurement in a process of its own: `python peers.py ENTRY JOB` trains, predicts the test part, and prints one
JSON line: `train_seconds`, `step_ms` (median), `steps`, `steps_timed`, `extra_seconds` (what was extrapolated, else 0),
`predictions` (labels of the test rows; null if extrapolated), `run` (afina's folder), `flags`.

classification.py starts it, waits, and adds what only the outside sees: seconds of the whole process and peak memory.
Each recipe reads like the script it stands for, so that anybody can judge whether it is a fair one.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

Result = dict[str, Any]


def main() -> None:
    """Run one entry and print its line."""
    job = SimpleNamespace(**json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
    print(json.dumps(ENTRIES[sys.argv[1]](job)))


def run_tutorial(job: SimpleNamespace) -> Result:
    """Trainer as tutorials write it: rows padded to the model's limit, fp32, the config's dropout, a rate of 2e-5."""
    return run_trainer(job, describe_tutorial(job), padding="max_length", most_steps=job.max_steps)


def run_frozen_tutorial(job: SimpleNamespace) -> Result:
    """The same with a backbone that doesn't learn."""
    return run_trainer(job, describe_tutorial(job), padding="max_length", most_steps=job.max_steps, is_frozen=True)


def describe_tutorial(job: SimpleNamespace) -> dict[str, Any]:
    """TrainingArguments of a tutorial; what isn't named is the library's default."""
    return {
        "num_train_epochs": job.epochs,
        "per_device_train_batch_size": job.batch_size,
        "per_device_eval_batch_size": job.batch_size,
        "learning_rate": 2e-5,
        "weight_decay": 0.01,
        "eval_strategy": "epoch",
    }


def run_best_trainer(job: SimpleNamespace) -> Result:
    """Trainer with its best flags, and with afina's rate, warm-up and missing dropout, so that both learn alike."""
    flags = {
        "num_train_epochs": job.epochs,
        "per_device_train_batch_size": job.batch_size,
        "per_device_eval_batch_size": 64,
        "learning_rate": job.learning_rate,
        "weight_decay": 0.01,
        "warmup_steps": 0.1,
        "train_sampling_strategy": "group_by_length",
        "bf16": job.bf16,
        "optim": "adamw_torch_fused",
        "dataloader_num_workers": 0,
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "logging_strategy": "epoch",
    }
    return run_trainer(job, flags, padding=False, most_steps=job.max_steps_best, dropout=0.0)


def run_trainer(
    job: SimpleNamespace, flags: dict[str, Any], *, padding: str | bool, most_steps: int | None,
    dropout: float | None = None, is_frozen: bool = False,
) -> Result:  # fmt: skip
    """Tokenise, train, evaluate each epoch on the validation part, save, predict the test part."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(job.seed)
    tokenizer = AutoTokenizer.from_pretrained(job.model_folder)
    config = load_config(job, dropout)
    model = AutoModelForSequenceClassification.from_pretrained(job.model_folder, config=config, dtype=torch.float32)
    if is_frozen:
        model.base_model.requires_grad_(False)

    def tokenise(rows: dict[str, list[Any]]) -> dict[str, Any]:
        return tokenizer(rows["text"], padding=padding, truncation=True, max_length=job.max_seq_length)

    parts = {
        name: Dataset.from_dict({"text": texts, "label": numbers}).map(tokenise, batched=True)
        for name, (texts, numbers) in read_parts(job).items()
    }
    steps = math.ceil(len(parts["train"]) / job.batch_size) * job.epochs
    is_cut = most_steps is not None and most_steps < steps
    if is_cut:
        flags = {**flags, "max_steps": most_steps, "eval_strategy": "no"}
    clock = make_trainer_clock()
    trainer = Trainer(
        model=model, args=TrainingArguments(
            job.work, **flags, seed=job.seed, use_cpu=job.device == "cpu", report_to="none", disable_tqdm=True
        ),
        train_dataset=parts["train"], eval_dataset=parts["validation"], processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer), compute_metrics=score_accuracy, callbacks=[clock],
    )  # fmt: skip
    began = time.perf_counter()
    trainer.train()
    train_seconds = time.perf_counter() - began
    trainer.save_model(f"{job.work}/model")
    result = {
        "train_seconds": train_seconds, "step_ms": 1000 * statistics.median(clock.step_seconds), "steps": steps,
        "steps_timed": len(clock.step_seconds), "extra_seconds": 0.0, "run": None,
        "flags": {"padding": padding or "longest", "dropout": dropout, "frozen": is_frozen, **flags},
    }  # fmt: skip
    # Grouping by length reorders the rows of a prediction too, so the order is taken back before it is scored.
    trainer.args.train_sampling_strategy = "random"
    if is_cut:
        return {**result, "predictions": None, **extrapolate(job, trainer, parts, clock, result)}
    numbers = trainer.predict(parts["test"]).predictions.argmax(axis=1)
    return {**result, "predictions": [job.names[number] for number in numbers]}


def extrapolate(job: SimpleNamespace, trainer: Any, parts: Any, clock: Any, result: Result) -> Result:
    """`train_seconds` and `extra_seconds` of the whole work, from the median step and the median evaluated batch.

    As many batches of the test part are evaluated as steps were trained. The evaluation after each epoch counts as
    training, as in a whole run; the one of the test part doesn't.
    """
    batch = trainer.args.per_device_eval_batch_size
    sample = parts["test"].select(range(min(len(parts["test"]), batch * result["steps_timed"])))
    clock.batch_seconds.clear()
    began = clock.last = time.perf_counter()
    trainer.predict(sample)
    mean = (time.perf_counter() - began) / math.ceil(len(sample) / batch)
    batch_seconds = statistics.median(clock.batch_seconds[1:] or [mean])
    # Rows over batch size: a last batch that isn't full counts for what it holds.
    steps = (len(parts["train"]) * job.epochs / job.batch_size - result["steps_timed"]) * result["step_ms"] / 1000
    validation = len(parts["validation"]) * job.epochs / batch * batch_seconds
    test = (len(parts["test"]) - len(sample)) / batch * batch_seconds
    return {
        "train_seconds": result["train_seconds"] + steps + validation,
        "extra_seconds": steps + validation + test,
    }


def load_config(job: SimpleNamespace, dropout: float | None) -> Any:
    """The model's config, with every dropout set to a value (its name differs between architectures) or left alone."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(job.model_folder, num_labels=len(job.names))
    if dropout is not None:
        for name, value in vars(config).items():
            if "dropout" in name and isinstance(value, float):
                setattr(config, name, dropout)
    return config


def make_trainer_clock() -> Any:
    """A listener that keeps the seconds of each optimizer step (its batch is collated within) and evaluated batch."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.step_seconds: list[float] = []
            self.batch_seconds: list[float] = []
            self.last = 0.0

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.last = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.last = tick(self.last, self.step_seconds)

        def on_prediction_step(self, *_: Any, **__: Any) -> None:
            self.last = tick(self.last, self.batch_seconds)

    return Clock()


def tick(last: float, seconds: list[float]) -> float:
    """The present time, after all that the GPU still has to do; the seconds since `last` are noted."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    now = time.perf_counter()
    seconds.append(now - last)
    return now


def score_accuracy(output: Any) -> dict[str, float]:
    """What tutorials watch after each epoch."""
    return {"accuracy": float((output.predictions.argmax(axis=1) == output.label_ids).mean())}


def run_encode_logistic(job: SimpleNamespace) -> Result:
    """A frozen encoder as SetFit and the guides of sentence-transformers use it, and logistic regression on top."""
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    parts = read_parts(job)
    encoder = SentenceTransformer(job.model_folder, device=job.device)
    encoder.max_seq_length = job.max_seq_length
    began = time.perf_counter()
    texts, labels = (parts["train"][place] + parts["validation"][place] for place in (0, 1))
    train, test = (encoder.encode(each, show_progress_bar=False) for each in (texts, parts["test"][0]))
    head = LogisticRegression(max_iter=1000).fit(train, labels)
    seconds = time.perf_counter() - began
    flags = {"encode": "batches of 32, fp32, the folder's own pooling", "max_seq_length": job.max_seq_length}
    return {
        **make_untimed_result(seconds, {**flags, "head": "LogisticRegression(max_iter=1000)"}), "run": None,
        "predictions": [job.names[number] for number in head.predict(test)],
    }  # fmt: skip


def make_untimed_result(train_seconds: float, flags: dict[str, Any]) -> Result:
    """The fields of an entry that takes no optimizer steps."""
    steps = {"step_ms": None, "steps": 0, "steps_timed": 0, "extra_seconds": 0.0}
    return {"train_seconds": train_seconds, **steps, "flags": flags}


def read_parts(job: SimpleNamespace) -> dict[str, tuple[list[str], list[int]]]:
    """Texts and numbers of their labels, by part."""
    numbers = {name: number for number, name in enumerate(job.names)}
    parts = {}
    for name in ("train", "validation", "test"):
        with open(f"{job.rows_folder}/{name}.jsonl", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        parts[name] = ([row["text"] for row in rows], [numbers[row["label"]] for row in rows])
    return parts


ENTRIES: dict[str, Callable[[SimpleNamespace], Result]] = {
    "tutorial": run_tutorial,
    "tutorial-frozen": run_frozen_tutorial,
    "trainer-best": run_best_trainer,
    "encode-logistic": run_encode_logistic,
}

if __name__ == "__main__":
    main()
