"""Correct a plan by a few real steps of each technique that fits, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.advice.correction import Measurement, Shape, correct
from afina.advice.costs import Costs, CostSubject, predict_costs
from afina.advice.fitting import find_remedy, fits
from afina.advice.plan import Plan, PlanRow
from afina.advice.workload import Workload
from afina.config.run import RunConfig
from afina.pipeline.steps_job import StepsJob
from afina.techniques.base import Technique

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from afina.data.labels import LabelSpace
    from afina.models.inspect import ModelFacts


def measure_plan(
    plan: Plan, techniques: Sequence[Technique], configs: Sequence[RunConfig], facts: ModelFacts,
    tokenizer: PreTrainedTokenizerBase, head: Any, labels: LabelSpace | None,
) -> Plan:  # fmt: skip
    """The plan with the figures of every technique that fits corrected; the others stay as predicted."""
    workload = plan.subject.workload
    rows, notes = [], list(plan.notes)
    for row, technique, config in zip(plan.rows, techniques, configs, strict=True):
        if not row.fits:
            rows.append(row)
            continue
        shapes = choose_shapes(workload, config)
        job = StepsJob(
            base=str(facts.folder), technique=technique.name, task=config.task, config=config.model_dump(mode="json"),
            shapes=[(shape.rows, shape.tokens) for shape in shapes], folder="", head=head,
            labels=labels.as_dict() if labels else None, pad_token_id=int(tokenizer.pad_token_id),
            vocab_size=facts.vocab_size, distinct_tokens=workload.distinct_tokens,
            has_types="token_type_ids" in tokenizer.model_input_names, learned_fraction=workload.learned_fraction,
            device=plan.subject.machine.device, precision=plan.subject.precision,
        )  # fmt: skip
        try:
            rows.append(measure_row(row, plan.subject, technique, config, shapes, job))
        except subprocess.CalledProcessError as error:
            rows.append(row)
            notes.append(describe_failure(technique.name, error))
    return replace(plan, rows=rows, notes=notes)


def measure_row(
    row: PlanRow, subject: CostSubject, technique: Technique, config: RunConfig, shapes: Sequence[Shape], job: StepsJob
) -> PlanRow:
    """One row, corrected."""
    found = run_steps(job)
    measured = [Measurement(shape, **each) for shape, each in zip(shapes, found, strict=True)]
    predicted = [predict_shape(subject, technique, config, shape) for shape in shapes]
    costs = correct(row.costs, predicted, measured)
    available = subject.machine.memory_bytes
    if fits(costs, available):
        return PlanRow(costs, True, None, is_measured=True)
    return PlanRow(costs, False, find_remedy(subject, technique, config, available), is_measured=True)


def choose_shapes(workload: Workload, config: RunConfig) -> list[Shape]:
    """The largest pass of the run, and before it one of half the rows and half the tokens."""
    rows = min(workload.count_batch(config.training, int(config.model.max_seq_length))[0], workload.train_rows)
    tokens = int(config.model.max_seq_length) if workload.is_packed else int(workload.lengths.max())
    return [Shape(max(1, rows // 2), max(2, tokens // 2)), Shape(rows, tokens)]


def predict_shape(subject: CostSubject, technique: Technique, config: RunConfig, shape: Shape) -> Costs:
    """What a run of one such batch would cost."""
    import numpy as np

    workload = replace(
        subject.workload, train_rows=shape.rows, validation_rows=0, test_rows=0, is_packed=False,
        lengths=np.full(shape.rows, shape.tokens, np.int64),
    )  # fmt: skip
    training = config.training.model_copy(update={"per_device_train_batch_size": shape.rows})
    return predict_costs(
        replace(subject, workload=workload), technique, config.model_copy(update={"training": training})
    )


def run_steps(job: StepsJob) -> list[dict[str, Any]]:
    """What the process of `afina.pipeline.measured_steps` prints."""
    with tempfile.TemporaryDirectory(prefix="afina-") as folder:
        path = Path(folder) / "job.json"
        path.write_text(replace(job, folder=folder).to_json(), encoding="utf-8")
        command = [sys.executable, "-m", "afina.pipeline.measured_steps", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return list(json.loads(done.stdout.splitlines()[-1]))


def describe_failure(technique: str, error: subprocess.CalledProcessError) -> str:
    """Why a technique's steps weren't measured."""
    if error.returncode < 0:
        return (
            f"{technique} was killed by signal {-error.returncode} while its steps were measured: likely out of memory"
        )
    lines = str(error.stderr).strip().splitlines() or ["no message"]
    return f"the steps of {technique} could not be measured: {lines[-1][:200]}"
