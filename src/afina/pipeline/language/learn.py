"""The second stage: the untouched model measured, the training loop, the tuned model measured on the same rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import nn

from afina.data.chat_template import tokenize
from afina.data.encode import TokenArrays
from afina.data.encode_conversations import TrainedRows
from afina.evaluation.general_text import read_paragraphs
from afina.models.finite import check_losses
from afina.pipeline.language.answers import Answerer, Sample, choose_samples, find_stop_tokens
from afina.pipeline.language.decoding import Decoding
from afina.pipeline.language.objective import batch_sequences, make_objective
from afina.pipeline.language.prepare import PreparedLanguage
from afina.pipeline.learn import tell_adapted
from afina.pipeline.listeners import describe_incidents
from afina.pipeline.narrator import Narrator
from afina.pipeline.resuming import find_saved
from afina.pipeline.stepping import take_steps
from afina.runs.names import BASE
from afina.techniques.base import describe_parameters
from afina.training.next_tokens import NextTokens, TokenCounts
from afina.training.seed import seed_torch
from afina.training.session import start_accelerator
from afina.wording import count


@dataclass(frozen=True)
class Measured:
    """What one state of the model does on rows that training never saw."""

    counts: TokenCounts
    general_loss: float | None
    """Mean loss on general text."""
    answers: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For base.json, so that a resumed run knows what the untouched model did."""
        counts = {name: values.tolist() for name, values in vars(self.counts).items()}
        return {"counts": counts, "general_loss": self.general_loss, "answers": self.answers}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Measured:
        """The inverse."""
        counts = TokenCounts(**{name: np.asarray(values) for name, values in stored["counts"].items()})
        return cls(counts, stored["general_loss"], stored["answers"])


@dataclass
class LearnedLanguage:
    """The tuned model, and what it and the untouched one do."""

    model: nn.Module
    objective: NextTokens
    accelerator: Accelerator
    samples: list[Sample]
    stops: list[int]
    """Tokens that end an answer."""
    before: Measured
    after: Measured
    validation: TokenCounts
    """Of the tuned model."""
    parameters: str
    kept_step: int | None
    """The optimizer step whose weights were kept."""
    incidents: dict[str, Any] = field(default_factory=dict)
    """What went wrong in steps, as report.json holds it."""


def learn_language(prepared: PreparedLanguage, narrator: Narrator) -> LearnedLanguage:
    """The model after learning by its technique, from the newest checkpoint if there is one."""
    config = prepared.config
    seed_torch(config.seed, "adapter")
    with narrator.stage("load"):
        loaded = prepared.technique.load(prepared.setup)
        tell_adapted(prepared.technique, prepared.setup, loaded, narrator)
        model = prepared.technique.prepare(loaded, prepared.setup).to(prepared.device)
    parameters = describe_parameters(model)
    narrator.say(parameters)
    accelerator = start_accelerator(prepared.device, prepared.setup.precision)
    objective = make_objective(prepared, model, accelerator, narrator)
    samples = choose_samples(prepared, prepared.scored)
    stops = find_stop_tokens(model, prepared.parts["train"], prepared.tokenizer)

    def measure(name: str) -> Measured:
        narrator.say(describe_measuring(prepared, name, len(samples)))
        with narrator.stage("evaluate"):
            return measure_model(prepared, model, objective, accelerator, samples, stops)

    before = remember_base(prepared, model, lambda: measure("untouched"))
    tell_scores(prepared, "untouched", before, narrator)
    saved = find_saved(prepared.folder, config.training, narrator)
    progress = take_steps(
        prepared, model, objective, accelerator, objective.train.tokens, saved, narrator, start="the untouched model",
        training=batch_sequences(config.training, objective),
    )  # fmt: skip
    after = measure("tuned")
    tell_scores(prepared, "tuned", after, narrator)
    with narrator.stage("evaluate"):
        validation = objective.measure(model, prepared.parts["validation"], accelerator)
    return LearnedLanguage(
        model, objective, accelerator, samples, stops, before, after, validation, parameters, progress.best_step,
        describe_incidents(progress, narrator),
    )  # fmt: skip


def describe_measuring(prepared: PreparedLanguage, name: str, answers: int) -> str:
    """What is waited for: of few rows it takes longer than their training."""
    evaluation, rows = prepared.config.evaluation, count(prepared.parts[prepared.scored].row_count, "row")
    asked = f", {count(answers, 'answer')} of at most {count(evaluation.max_new_tokens, 'token')}" if answers else ""
    leave = " (--set evaluation.generation_samples=0 leaves the answers out)" if answers and name == "untouched" else ""
    general = " and on general text" if evaluation.general_text else ""
    return f"looking at the {name} model: its loss on {rows}{general}{asked}{leave}"


def tell_scores(prepared: PreparedLanguage, name: str, measured: Measured, narrator: Narrator) -> None:
    """One line on a state of the model."""
    scores = "  ".join(f"{key} {value:.4f}" for key, value in measured.counts.summarise().items())
    narrator.say(f"the {name} model on the {prepared.scored} rows: {scores}")


def remember_base(prepared: PreparedLanguage, model: nn.Module, measure: Any) -> Measured:
    """What the untouched model does; a resumed run, whose adapter may have moved, has it on disk.

    Raises:
        ModelError: if its weights are why it gives no finite losses.
    """
    path: Path = prepared.folder.path / BASE
    if path.exists():
        return Measured.from_dict(prepared.folder.read_json(BASE))
    found: Measured = measure()
    check_losses(found.counts.losses_N, found.counts.row_numbers_N, prepared.scored, model)
    prepared.folder.write_json(BASE, found.as_dict())
    return found


def measure_model(
    prepared: PreparedLanguage, model: nn.Module, objective: NextTokens, accelerator: Accelerator,
    samples: list[Sample], stops: list[int],
) -> Measured:  # fmt: skip
    """Losses on the reported part and on general text, and answers to the sampled prompts."""
    evaluation = prepared.config.evaluation
    counts = objective.measure(model, prepared.parts[prepared.scored], accelerator)
    general = None
    if evaluation.general_text:
        text = encode_general_text(prepared)
        general = objective.measure(model, text, accelerator).summarise()["loss"]
    answerer = Answerer(model, prepared.tokenizer, stops, prepared.device, prepared.setup.precision)
    prompts = [sample.prompt_ids for sample in samples]
    answers = answerer.answer_prompts(prompts, Decoding(evaluation.max_new_tokens))
    return Measured(counts, general, answers)


def encode_general_text(prepared: PreparedLanguage) -> TrainedRows:
    """The fixed sample as rows of which every token but the first is to be said."""
    length = int(prepared.config.model.max_seq_length)
    rows = [ids[:length] for ids in tokenize(prepared.tokenizer, list(read_paragraphs()), specials=True)]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    ids = np.asarray([token for row in rows for token in row], np.int32)
    marks = np.ones(len(ids), np.uint8)
    marks[offsets[:-1]] = 0
    return TrainedRows("general text", TokenArrays(ids, offsets, None, 0, 0), marks, np.arange(1, len(rows) + 1))
