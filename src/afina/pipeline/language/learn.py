"""The second stage: the untouched model measured, the training loop, the tuned model measured on the same rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from afina.config.reason import Reason
from afina.data.chat_template import tokenize
from afina.data.encode import TokenArrays
from afina.data.encode_conversations import TrainedRows
from afina.data.packing import collate_packed, collate_padded, pack_rows
from afina.evaluation.general_text import read_paragraphs
from afina.kernels.allocator import keep_freed_memory
from afina.models.finite import check_losses
from afina.models.language_head import compare_with_forward, find_language_head
from afina.pipeline.language.answers import Sample, answer_prompts, choose_samples, find_stop_tokens
from afina.pipeline.language.decoding import Decoding
from afina.pipeline.language.prepare import PreparedLanguage
from afina.pipeline.listeners import describe_incidents, make_listeners
from afina.pipeline.narrator import Narrator
from afina.pipeline.resuming import find_checkpoint, open_store
from afina.techniques.base import describe_parameters
from afina.training.checkpoint import CheckpointStore
from afina.training.events import notify
from afina.training.halves import plan_halves
from afina.training.loop import UNMOVED, fit
from afina.training.memory_guard import MemoryGuard
from afina.training.next_tokens import NextTokens, TokenCounts
from afina.training.optim import make_optimizer
from afina.training.proofs import check_evaluation_keeps_gradient
from afina.training.seed import seed_torch
from afina.training.seen_rows import train_seen_rows
from afina.training.session import Progress, Session, resume_from, start_accelerator
from afina.training.signals import StopSignals
from afina.training.weight_copies import suits_copies, train_weight_copies

BASE = "base.json"
ROWS_TO_COMPARE = 4
# Relative to the loss. The halves round where the whole doesn't, in bf16 by a part in a hundred.
HALVES_TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
PACKED_TOLERANCE = {"fp32": 1e-5, "bf16": 1e-2}


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
        model = prepared.technique.prepare(loaded, prepared.setup).to(prepared.device)
    parameters = describe_parameters(model)
    narrator.say(parameters)
    accelerator = start_accelerator(prepared.device, prepared.setup.precision)
    objective = choose_objective(prepared, model, accelerator, narrator)
    samples = choose_samples(prepared.parts[prepared.scored], prepared.tokenizer, config.evaluation.generation_samples)
    stops = find_stop_tokens(model, prepared.parts["train"], prepared.tokenizer)

    def measure() -> Measured:
        with narrator.stage("evaluate"):
            return measure_model(prepared, model, objective, accelerator, samples, stops)

    before = remember_base(prepared, model, measure)
    tell_scores(prepared, "untouched", before, narrator)
    progress = train(prepared, model, objective, accelerator, narrator)
    after = measure()
    tell_scores(prepared, "tuned", after, narrator)
    with narrator.stage("evaluate"):
        validation = objective.measure(model, prepared.parts["validation"], accelerator)
    return LearnedLanguage(
        model, objective, accelerator, samples, stops, before, after, validation, parameters, progress.best_step,
        describe_incidents(progress, narrator),
    )  # fmt: skip


def tell_scores(prepared: PreparedLanguage, name: str, measured: Measured, narrator: Narrator) -> None:
    """One line on a state of the model."""
    scores = "  ".join(f"{key} {value:.4f}" for key, value in measured.counts.summarise().items())
    narrator.say(f"the {name} model on the {prepared.scored} rows: {scores}")


def choose_objective(
    prepared: PreparedLanguage, model: nn.Module, accelerator: Accelerator, narrator: Narrator
) -> NextTokens:
    """The loss over the model's halves, and over packed rows, each where it is proven to be the plain one."""
    config, precision = prepared.config, prepared.setup.precision
    train, validation = prepared.parts["train"], prepared.parts["validation"]
    objective = NextTokens(train, validation, prepared.pad_id, int(config.evaluation.eval_tokens_per_batch))
    model.eval()
    head = find_language_head(model)
    batch = collate_padded(train, np.arange(min(ROWS_TO_COMPARE, len(train))), prepared.pad_id).to(accelerator.device)
    if head.linear is not None:
        with accelerator.autocast():
            halves, whole = compare_with_forward(model, head, batch)
        if not abs(halves - whole) <= HALVES_TOLERANCE[precision] * max(1.0, abs(whole)):
            narrator.note(f"the head is not taken apart: the loss would be {halves:.5f} instead of {whole:.5f}")
            objective = replace(objective, is_whole=True)
    else:
        objective = replace(objective, is_whole=True)
    return choose_packing(prepared, model, objective, accelerator, narrator)


def choose_packing(
    prepared: PreparedLanguage, model: nn.Module, objective: NextTokens, accelerator: Accelerator, narrator: Narrator
) -> NextTokens:
    """The objective with rows packed, where that is wanted and equal to rows alone."""
    wanted = prepared.config.data.packing
    name = "data.packing"
    if wanted is False or (wanted == "auto" and prepared.device == "cpu"):
        why = "as given" if wanted is False else "on a CPU rows of like length share a batch, with little padding"
        narrator.explain(Reason(name, False, why))
        return objective
    obstacle = find_obstacle(prepared, model, objective, accelerator)
    if obstacle:
        narrator.explain(Reason(name, False, obstacle))
        return objective
    packs = pack_rows(objective.train.tokens.lengths, int(prepared.config.model.max_seq_length))
    narrator.explain(
        Reason(name, True, f"{len(objective.train):,} rows in {len(packs):,} sequences, proven equal to rows alone")
    )
    return replace(objective, packs=packs)


def find_obstacle(prepared: PreparedLanguage, model: Any, objective: NextTokens, accelerator: Accelerator) -> str:
    """Why rows can't be packed for this model; an empty string if they can."""
    config = model.config.get_text_config()
    longest = int(objective.train.tokens.lengths.max())
    window = getattr(config, "sliding_window", None)
    if window and longest > window:
        return f"the model looks back {window} tokens only, and the longest row has {longest}"
    if config._attn_implementation not in ("sdpa", "afina"):
        return f"the model's attention ({config._attn_implementation}) takes no mask of blocks"
    data, pad_id = objective.train, prepared.pad_id
    rows = np.arange(min(ROWS_TO_COMPARE, len(data)))
    head = objective.find_head(model)
    with torch.no_grad(), accelerator.autocast():
        try:
            packed = float(head.sum_losses(collate_packed(data, [rows], pad_id).to(accelerator.device)))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            return f"the model refuses packed rows ({type(error).__name__})"
        alone = float(head.sum_losses(collate_padded(data, rows, pad_id).to(accelerator.device)))
    if not abs(packed - alone) <= PACKED_TOLERANCE[prepared.setup.precision] * max(1.0, abs(alone)):
        return f"packed rows would have a loss of {packed:.4f} instead of {alone:.4f}"
    return ""


def remember_base(prepared: PreparedLanguage, model: nn.Module, measure: Any) -> Measured:
    """What the untouched model does; a resumed run, whose adapter may have moved, has it on disk.

    Raises:
        ModelError: if its weights are why it gives no finite losses.
    """
    path: Path = prepared.folder.path / BASE
    if path.exists():
        return Measured.from_dict(prepared.folder.read_json(BASE))
    found: Measured = measure()
    part = prepared.parts[prepared.scored]
    check_losses(found.counts.losses_N, part.row_numbers, part.name, model)
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
    answers = answer_prompts(
        model, prepared.tokenizer, [sample.prompt_ids for sample in samples], stops,
        Decoding(evaluation.max_new_tokens), device=prepared.device, precision=prepared.setup.precision,
    )  # fmt: skip
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


def train(
    prepared: PreparedLanguage, model: nn.Module, objective: NextTokens, accelerator: Accelerator, narrator: Narrator
) -> Progress:
    """The training loop; gives where it ended."""
    config = prepared.config
    store = open_store(prepared.folder, config.training, narrator)
    checkpoint = find_checkpoint(store, narrator)
    ids, lazy = objective.train.tokens.ids, prepared.config.training.lazy_embeddings
    seen = train_seen_rows(model, ids, prepared.pad_id, wanted=lazy)
    copies = train_weight_copies(model, wanted=suits_copies(
        config.training, device=prepared.device, precision=prepared.setup.precision, moves=prepared.technique.moves
    ))  # fmt: skip
    with StopSignals() as signals, narrator.stage("train"), keep_freed_memory(), seen, copies:
        session = open_session(prepared, model, objective, accelerator, store, signals, narrator)
        check_evaluation_keeps_gradient(session)
        if checkpoint:
            resume_from(session, checkpoint)
            narrator.say(f"going on after step {session.progress.step} of {session.total_steps}")
        try:
            fit(session)
        finally:
            notify(session.callbacks, "close")
    if session.progress.best_step == 0:
        narrator.note(UNMOVED.format(steps=session.progress.step, result="the untouched model"))
    return session.progress


def open_session(
    prepared: PreparedLanguage, model: nn.Module, objective: NextTokens, accelerator: Accelerator,
    store: CheckpointStore, signals: StopSignals, narrator: Narrator,
) -> Session:  # fmt: skip
    """The loop's view of the run."""
    training = prepared.config.training
    rate = float(training.learning_rate)
    return Session(
        model=model,
        optimizer=make_optimizer(model, rate, training.weight_decay),
        accelerator=accelerator,
        objective=objective,
        config=training,
        learning_rate=rate,
        epochs=int(training.num_train_epochs),
        seed=prepared.config.seed,
        store=store,
        signals=signals,
        memory=MemoryGuard(prepared.device, training.check_memory),
        halves=plan_halves(model, objective, prepared.device),
        evaluates_start=True,  # the untouched model
        callbacks=make_listeners(prepared.folder, training, narrator),
    )
