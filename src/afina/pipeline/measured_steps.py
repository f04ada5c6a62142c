"""A few real steps of one technique at given shapes: `python -m afina.pipeline.measured_steps JOB`, which prints JSON.

It runs in a process of its own, so that the peak of its memory is that of these steps, and the next technique finds the
memory free again. The rows are made up; the model, the technique and the step are the run's own.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from afina.config.run import RunConfig
from afina.data.batches import Indices
from afina.data.encode import TokenArrays
from afina.data.encode_conversations import TrainedRows
from afina.data.encode_words import TaggedTokens, WordTokens
from afina.data.encoded import EncodedPart
from afina.data.labels import LabelSpace
from afina.data.tags import TagArrays
from afina.kernels.allocator import keep_freed_memory
from afina.models.features import extract_features
from afina.models.load import load_tokenizer
from afina.pipeline.steps_job import StepsJob
from afina.tasks.base import TaskState
from afina.tasks.registry import make_task
from afina.tasks.token_classification import TokenClassification
from afina.techniques.base import Setup, Technique
from afina.techniques.registry import make_technique
from afina.training.checkpoint import CheckpointStore
from afina.training.contrastive import ContrastiveRows
from afina.training.halves import plan_halves
from afina.training.loop import train_step
from afina.training.memory import measure_peak_memory_bytes, reset_peak_memory
from afina.training.memory_guard import MemoryGuard
from afina.training.next_tokens import NextTokens
from afina.training.objective import LabelledRows, Objective
from afina.training.optim import make_optimizer
from afina.training.seen_rows import train_seen_rows
from afina.training.session import Session, start_accelerator
from afina.training.signals import StopSignals
from afina.training.tagged_words import TaggedWords
from afina.training.weight_copies import suits_copies, train_weight_copies

STEPS = 3
RATE = 1e-9


def main() -> None:
    """Do the job, print what was measured."""
    job = StepsJob.from_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.write(json.dumps(measure_steps(job)))


def measure_steps(job: StepsJob) -> list[dict[str, float]]:
    """`peak_bytes` and `step_seconds` for each of the job's shapes, in their order."""
    import sklearn.linear_model  # noqa: F401  # a run holds it, so its memory counts

    tokenizer = load_tokenizer(Path(job.base))  # so does its tables'
    config = RunConfig.model_validate(job.config)
    setup = Setup(Path(job.base), job.base, job.head, job.pad_token_id, config, job.precision)
    technique = make_technique(job.technique)
    loaded = technique.load(setup)
    model = technique.prepare(loaded, setup).to(job.device)
    found = []
    with keep_freed_memory():
        for rows, tokens in job.shapes:
            reset_peak_memory(job.device)
            if technique.traits.moves == "head":
                seconds = time_features(loaded.model, job, rows, tokens)
            else:
                seconds = time_steps(model, setup, job, rows, tokens)
            read_again(technique, setup, job, tokens)
            found.append({"peak_bytes": measure_peak_memory_bytes(job.device), "step_seconds": min(seconds[1:])})
    del tokenizer  # held until here
    return found


def read_again(technique: Technique, setup: Setup, job: StepsJob, tokens: int) -> None:
    """A second copy of the model beside the first, and a row through it, as a run does at its end for its proof: for
    some techniques that is the peak."""
    model: Any = technique.load(setup).model.to(job.device)
    ids = torch.from_numpy(make_tokens(1, tokens, job).ids.astype(np.int64))[None].to(job.device)
    with torch.inference_mode():
        model.base_model(input_ids=ids)


def time_features(model: Any, job: StepsJob, rows: int, tokens: int) -> list[float]:
    """Seconds of each pass over a batch without gradients."""
    arrays = make_tokens(rows, tokens, job)
    seconds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        extract_features(
            model, arrays, np.arange(rows), ("own",), pad_id=job.pad_token_id, tokens_per_batch=rows * tokens,
            device=job.device, precision=job.precision,
        )  # fmt: skip
        seconds.append(time.perf_counter() - began)
    return seconds


def time_steps(model: nn.Module, setup: Setup, job: StepsJob, rows: int, tokens: int) -> list[float]:
    """Seconds of each optimizer step of one batch, so small that nothing is learned."""
    ids = np.arange(count_tokens(job), dtype=np.int32)
    training = setup.config.training
    suits = suits_copies(
        training, device=job.device, precision=setup.precision, moves=make_technique(job.technique).traits.moves
    )
    seen = train_seen_rows(model, ids, job.pad_token_id, wanted=training.lazy_embeddings)
    with seen, train_weight_copies(model, wanted=suits):
        return time_steps_of(model, setup, job, rows, tokens)


def time_steps_of(model: nn.Module, setup: Setup, job: StepsJob, rows: int, tokens: int) -> list[float]:
    """The same, of a model whose table of token vectors and linear layers are as a run trains them."""
    training, objective = setup.config.training, make_objective(job, rows, tokens)
    session = Session(
        model=model, optimizer=make_optimizer(model, RATE, 0.0),
        accelerator=start_accelerator(job.device, setup.precision), objective=objective, config=training,
        learning_rate=RATE, epochs=1, seed=0, store=CheckpointStore(Path(job.folder), 1), signals=StopSignals(),
        memory=MemoryGuard(job.device, wanted=False), halves=plan_halves(model, objective, job.device),
    )  # fmt: skip
    window = [np.arange(rows)] * min(2, training.gradient_accumulation_steps)
    seconds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        train_step(session, window)
        seconds.append((time.perf_counter() - began) / len(window) * training.gradient_accumulation_steps)
    if session.progress.smaller_passes:  # then these were other shapes than those asked for
        raise MemoryError
    return seconds


def make_objective(job: StepsJob, rows: int, tokens: int) -> Objective:
    """The run's objective over made-up rows."""
    arrays, numbers = make_tokens(rows, tokens, job), np.arange(1, rows + 1)
    if job.head is None:
        marks = np.zeros(rows * tokens, np.uint8).reshape(rows, tokens)
        marks[:, -max(1, int(tokens * job.learned_fraction)) :] = 1
        marks[:, 0] = 0
        part = TrainedRows("made up", arrays, marks.ravel(), numbers)
        return NextTokens(part, part, job.pad_token_id, rows * tokens)
    space = LabelSpace.from_dict(dict(job.labels or {}))
    if job.task == TokenClassification.name:
        return make_tagged_objective(job, TokenClassification(space), arrays, numbers)
    made = EncodedPart("made up", arrays, make_labels(space, rows), numbers)
    task = make_task(job.task, space)
    labelled = LabelledRows(task, TaskState(), made, made, job.pad_token_id, rows * tokens)
    return ContrastiveRows(labelled) if job.config["training"]["objective"] == "contrastive" else labelled


def make_tagged_objective(
    job: StepsJob, task: TokenClassification, arrays: TokenArrays, numbers: Indices
) -> TaggedWords:
    """The objective of rows in which each token is a word."""
    tags = TagArrays(np.zeros(len(arrays.ids), np.int32), arrays.offsets)
    words = WordTokens(arrays, np.ones(len(arrays.ids), np.uint8), np.arange(len(arrays)))
    made = TaggedTokens("made up", arrays, tags, numbers, words)  # type: ignore[arg-type]
    return TaggedWords(task, TaskState(), made, made, job.pad_token_id, len(arrays.ids))


def count_tokens(job: StepsJob) -> int:
    """How many different tokens the run's rows name; those are the first ones here."""
    return int(min(job.distinct_tokens or job.vocab_size, job.vocab_size))


def make_labels(space: LabelSpace, rows: int) -> Any:
    """Labels of the right kind, all alike."""
    if space.kind == "regression":
        return np.zeros(rows, np.float32)
    if space.kind == "multilabel":
        return np.zeros((rows, len(space.names)), np.uint8)
    return np.zeros(rows, np.int64)


def make_tokens(rows: int, tokens: int, job: StepsJob) -> TokenArrays:
    """Rows of random tokens, of as many as the run's rows name; which ones they are changes neither memory nor time."""
    ids = np.random.default_rng(0).integers(0, count_tokens(job), rows * tokens).astype(np.int32)
    ids[ids == job.pad_token_id] = (job.pad_token_id + 1) % count_tokens(job)
    offsets: Indices = np.arange(0, rows * tokens + 1, tokens, dtype=np.int64)
    types = np.zeros(rows * tokens, np.uint8) if job.has_types else None
    return TokenArrays(ids, offsets, types, 0, 0)


if __name__ == "__main__":
    main()
