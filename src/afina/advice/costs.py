"""What a run would cost by one technique: memory, time, disk. `predict_costs` is the one way in."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from afina.advice import factors
from afina.advice.duration import (
    Durations,
    Work,
    apply_factors,
    count_forward,
    count_step,
    count_training,
    estimate_seconds,
    estimate_terms,
)
from afina.advice.machine import Machine
from afina.advice.memory import MemoryCosts, Pass, predict_memory
from afina.advice.outline import FP32_BYTES, Kept, Outline, count_kept, outline
from afina.advice.workload import Workload
from afina.config.run import RunConfig
from afina.data.batches import PROMPTS_AT_ONCE, order_training_batches, pad_length
from afina.kernels.lanes import LANES, cut_evenly
from afina.kernels.native import load_library
from afina.models.empty import Blueprint
from afina.models.probe import WORDS_SOLVED
from afina.runs.creation import CHECKPOINT_BYTES, EXTRA_CHECKPOINTS
from afina.techniques.base import Technique
from afina.training.halves import LEAST_PRODUCTS
from afina.training.weight_copies import suits_copies

MOST_LENGTHS = 4096
# Of the features of words: as they are, standardised, and joined with those of the validation part.
SOLVER_COPIES = 3


@dataclass(frozen=True)
class CostSubject:
    """A model, rows and a machine: everything that costs depend on, but for the technique and its settings."""

    blueprint: Blueprint
    workload: Workload
    machine: Machine
    precision: str


@dataclass(frozen=True)
class DiskCosts:
    """Bytes."""

    model: int
    checkpoints: int
    """At most, while the run goes on."""
    cache: int
    """Features that the next run finds again."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Costs:
    """What a run would cost."""

    technique: str
    trainable: int
    parameters: int
    memory: MemoryCosts
    durations: Durations | None
    """None where the machine's speed isn't known."""
    disk: DiskCosts
    terms: dict[str, float]
    """Seconds of the mean optimizer step, or for frozen features of the mean batch, by kind of work and before factors;
    empty where the machine's speed isn't known."""
    factors: factors.Factors = factors.WITHOUT_AMX
    """How well the work uses the machine."""
    corrected_step_seconds: float | None = None
    """Of the mean step, where real ones were taken."""

    @property
    def step_seconds(self) -> float | None:
        """Seconds of the mean optimizer step, or of the mean batch of frozen features."""
        if self.corrected_step_seconds is not None:
            return self.corrected_step_seconds
        return apply_factors(self.terms, self.factors) if self.terms else None


def predict_costs(subject: CostSubject, technique: Technique, config: RunConfig) -> Costs:
    """The costs of a run by the technique.

    Args:
        config: resolved (`config/resolve.py`): its length, epochs and dropout are values. No `auto` of device or
            precision is read; these are the subject's.

    Raises:
        ModelError: if transformers can't build the model from its config.
        ConfigError: for LoRA on layers that the model doesn't have, or where the model should compute activations again
            and can't.
    """
    return _Prediction(subject, technique, config).costs


@dataclass(frozen=True)
class _Prediction:
    """The parts of a prediction, each computed once."""

    subject: CostSubject
    technique: Technique
    config: RunConfig

    @property
    def costs(self) -> Costs:
        rates = self.subject.machine.rates
        return Costs(
            technique=self.technique.name,
            trainable=self.outline.trainable,
            parameters=self.outline.parameters,
            memory=self.memory,
            durations=self.durations,
            disk=self.disk,
            terms=self.terms,
            factors=factors.WITHOUT_AMX if rates is None else rates.factors,
        )

    @cached_property
    def outline(self) -> Outline:
        subject = self.subject
        distinct = subject.workload.distinct_tokens
        return outline(
            subject.blueprint, self.technique, self.config, subject.precision, distinct, copies=self.has_copies,
            compiled=self.has_compiled_layers,
        )  # fmt: skip

    @cached_property
    def has_copies(self) -> bool:
        """Whether linear layers have bf16 copies of their weights."""
        subject = self.subject
        return suits_copies(
            self.config.training, device=subject.machine.device, precision=subject.precision,
            moves=self.technique.traits.moves,
        )  # fmt: skip

    @property
    def has_compiled_layers(self) -> bool:
        """Whether compiled kernels compute layers, where there are some."""
        return self.config.training.compiled_kernels and self.subject.machine.device == "cpu"

    @property
    def by_pairs(self) -> bool:
        """Whether the backbone moves by pairs of rows."""
        return self.config.training.objective == "contrastive" and self.technique.traits.moves != "head"

    @property
    def is_language_model(self) -> bool:
        return self.subject.blueprint.is_language_model

    @cached_property
    def batch(self) -> tuple[int, int]:
        """Rows, or packed sequences, of a pass; and passes of an optimizer step."""
        return self.subject.workload.count_batch(self.config.training, int(self.config.model.max_seq_length))

    @cached_property
    def shapes(self) -> list[tuple[int, int]]:
        """Rows and tokens of each batch of an epoch over the rows whose length is known."""
        workload, (size, _) = self.subject.workload, self.batch
        lengths = workload.lengths[:MOST_LENGTHS]
        if workload.is_packed:
            length = int(self.config.model.max_seq_length)
            sequences = replace(workload, lengths=lengths).count_sequences(length)
            return [(min(size, sequences), length)] * -(-sequences // size)
        batches = order_training_batches(lengths, size, self.config.seed, 0)
        if self.by_pairs:  # each row comes with another one, whose length may be any
            partners = np.random.Generator(np.random.PCG64(self.config.seed)).permutation(lengths)
            longest = [(2 * len(rows), int(max(lengths[rows].max(), partners[rows].max()))) for rows in batches]
        else:
            longest = [(len(rows), int(lengths[rows].max())) for rows in batches]
        return [(size, pad_length(each, int(lengths.max()))) for size, each in longest]

    @cached_property
    def repeats(self) -> float:
        """How often these batches go into an epoch."""
        return self.subject.workload.train_rows / max(1, len(self.subject.workload.lengths[:MOST_LENGTHS]))

    @cached_property
    def largest(self) -> Pass:
        """The longest rows together: rows of like length share a batch, so there is one that holds them."""
        rows, tokens = max(rows for rows, _ in self.shapes), max(tokens for _, tokens in self.shapes)
        held = self.count_held(rows, tokens)
        learned = int(held * self.subject.workload.learned_fraction)
        is_ragged = len({tokens for _, tokens in self.shapes}) > 1
        return Pass(rows, tokens, learned, self.batch[1] > 1, is_ragged, held)

    def count_held(self, rows: int, tokens: int) -> int:
        """Tokens of that batch, padding included: less than its rows times its length where it is computed in halves,
        which are padded each for itself."""
        if not self.has_halves(rows * tokens):
            return rows * tokens
        lengths = np.sort(self.subject.workload.lengths[:MOST_LENGTHS])[-rows:]
        longest = int(lengths[-1])
        parts = [lengths[places] for places in cut_evenly(lengths, LANES)]
        return sum(len(part) * pad_length(int(part.max()), longest) for part in parts)

    def has_halves(self, tokens: int) -> bool:
        """Whether a batch of so many tokens is surely computed in halves (`training/halves.py`). Where that needs the
        model itself to be known, it isn't: the whole batch holds more."""
        training, is_here = self.config.training, not self.subject.machine.is_described
        is_apart = not (self.by_pairs or self.technique.traits.stored_in_4_bits or self.subject.workload.is_packed)
        adapts = self.technique.traits.moves == "adapter"
        draws = float(training.dropout) > 0 or (adapts and float(self.config.lora.lora_dropout) > 0)
        is_drawn_apart = not draws or (load_library() is not None and not training.gradient_checkpointing)
        can = self.subject.machine.device == "cpu" and training.side_by_side and is_apart and is_drawn_apart
        has_threads = is_here and torch.get_num_threads() >= LANES
        return can and has_threads and self.outline.multiplied / self.outline.layers * tokens >= LEAST_PRODUCTS

    @cached_property
    def kept(self) -> Kept:
        subject, largest = self.subject, self.largest
        return count_kept(
            subject.blueprint, self.technique, self.config, subject.precision, largest.rows, largest.tokens,
            copies=self.has_copies, compiled=self.has_compiled_layers,
        )  # fmt: skip

    @property
    def tokens_at_once(self) -> int:
        return int(self.config.evaluation.eval_tokens_per_batch)

    @property
    def cache_bytes(self) -> int:
        """Features of all rows that are held at a time."""
        workload, width = self.subject.workload, self.outline.hidden_size * FP32_BYTES
        if self.subject.blueprint.of_words:
            return width * self.count_word_features()
        if self.technique.traits.moves == "head":
            poolings = 3 if self.config.features.pooling == "auto" else 1
            return (workload.train_rows + workload.validation_rows + workload.test_rows) * width * poolings
        probes = self.config.training.head_init == "probe" and not self.is_language_model
        return workload.train_rows * width if probes else 0

    def count_word_features(self) -> int:
        """Features of words that are held at a time: of the training part with what the solver makes of them, and where
        the head is the result, of a held-out part. A row has no more words than tokens."""
        workload, words = self.subject.workload, self.subject.workload.lengths.mean()
        solved = SOLVER_COPIES * min(workload.train_rows * words, WORDS_SOLVED)
        held_out = workload.validation_rows + workload.test_rows if self.technique.traits.moves == "head" else 0
        needs_none = self.technique.traits.moves != "head" and self.config.training.head_init != "probe"
        return 0 if needs_none else int(solved + held_out * words)

    @cached_property
    def memory(self) -> MemoryCosts:
        return predict_memory(
            self.outline, self.kept, self.largest, device=self.subject.machine.device,
            precision=self.subject.precision, technique=self.technique, cache_bytes=self.cache_bytes,
            tokens_at_once=self.tokens_at_once,
            mapped_bytes=self.outline.mapped_bytes if self.subject.machine.device == "cpu" else 0,
        )  # fmt: skip

    @property
    def disk(self) -> DiskCosts:
        config, found = self.config, self.outline
        moves = self.technique.traits.moves
        whole = moves != "adapter"
        checkpoints = config.training.save_total_limit + EXTRA_CHECKPOINTS if moves != "head" else 0
        return DiskCosts(
            model=FP32_BYTES * (found.parameters if whole else found.trainable),
            checkpoints=checkpoints * CHECKPOINT_BYTES * found.stepped,
            cache=self.cache_bytes if config.features.cache and not self.subject.blueprint.of_words else 0,
        )

    @cached_property
    def step(self) -> Work:
        """The mean optimizer step of the rows whose length is known; for frozen features the mean batch."""
        return self.epoch_work.times(1 / max(1.0, self.steps))

    @property
    def steps(self) -> float:
        """Optimizer steps of the batches in `shapes`."""
        return max(1.0, len(self.shapes) / self.batch[1])

    @cached_property
    def epoch_work(self) -> Work:
        """The training of the batches in `shapes`."""
        work, share = Work(), self.subject.workload.learned_fraction
        bytes_a_token = self.kept.total / (self.largest.rows * self.largest.tokens)
        for rows, tokens in self.shapes:
            learned = rows * tokens * share
            if self.technique.traits.moves == "head":
                work += count_forward(self.outline, rows, tokens, learned)
                continue
            work += count_training(
                self.outline, self.technique.traits.moves, rows, tokens, learned, bytes_a_token * rows * tokens,
                self.config.training.gradient_checkpointing,
            )  # fmt: skip
        return work if self.technique.traits.moves == "head" else work + count_step(self.outline).times(self.steps)

    @cached_property
    def terms(self) -> dict[str, float]:
        rates = self.subject.machine.rates
        return {} if rates is None else estimate_terms(self.step, rates)

    def count_reading(self, rows: int) -> Work:
        """A pass without gradients over so many rows of the usual lengths."""
        lengths = self.subject.workload.lengths
        learned = float(lengths.mean()) * self.subject.workload.learned_fraction
        size = max(1, int(self.tokens_at_once / max(1.0, float(lengths.mean()))))
        mean = float(np.sqrt(np.square(lengths, dtype=np.float64).mean()))  # of attention, the larger part
        batch = count_forward(self.outline, size, mean, size * learned)
        return batch.times(rows / size)

    @cached_property
    def durations(self) -> Durations | None:
        rates = self.subject.machine.rates
        if rates is None:
            return None
        workload, found = self.subject.workload, self.outline
        saving = factors.SECONDS_A_BYTE * found.weight_bytes
        held_out = estimate_seconds(self.count_reading(workload.validation_rows + workload.test_rows), rates)
        start = factors.START_SECONDS + 3 * saving
        if self.technique.traits.moves == "head":
            epoch = estimate_seconds(self.count_reading(workload.train_rows), rates)
            return Durations(epoch, start + epoch + held_out)
        validation = estimate_seconds(self.count_reading(workload.validation_rows), rates)
        checkpoint = factors.SECONDS_A_BYTE * CHECKPOINT_BYTES * found.stepped
        steps = estimate_seconds(self.epoch_work, rates) * self.repeats
        evaluation = validation + checkpoint
        if self.by_pairs:  # the head is solved anew on all of them
            evaluation += estimate_seconds(self.count_reading(workload.train_rows), rates)
        epochs, evaluations = self.count_passes()
        epoch = steps + evaluation * evaluations / math.ceil(epochs)
        total = start + steps * epochs + evaluation * evaluations + held_out
        if self.is_language_model:
            return Durations(epoch, total + held_out + self.estimate_answers())
        if self.config.training.head_init == "probe":  # pairs: the first evaluation
            total += estimate_seconds(self.count_reading(workload.train_rows), rates)
        return Durations(epoch, total)

    def count_passes(self) -> tuple[float, int]:
        """Passes over the training rows, and evaluations at their ends and within them."""
        training, an_epoch = self.config.training, self.steps * self.repeats
        epochs = training.max_steps / an_epoch if training.max_steps else float(training.num_train_epochs)
        within = int((an_epoch - 1) // training.eval_steps) if training.eval_steps else 0
        return epochs, math.ceil(epochs) + int(within * epochs)

    def estimate_answers(self) -> float:
        """Seconds of the answers before and after: each token reads all weights."""
        rates, evaluation = self.subject.machine.rates, self.config.evaluation
        if rates is None or not evaluation.generation_samples:
            return 0.0
        batches = -(-evaluation.generation_samples // PROMPTS_AT_ONCE)
        token = self.outline.weight_bytes / rates.bandwidth + rates.factors.blocks * self.outline.layers / 2
        return 2 * batches * evaluation.max_new_tokens * token


def as_dict(costs: Costs) -> dict[str, Any]:
    """For report.json and `--json`."""
    memory, disk = costs.memory, costs.disk
    return {
        "technique": costs.technique,
        "trainable_parameters": costs.trainable,
        "total_parameters": costs.parameters,
        "memory_bytes": {**asdict(memory), "total": memory.total},
        "seconds": None if costs.durations is None else asdict(costs.durations),
        "step_seconds": costs.step_seconds,
        "work": costs.terms,
        "disk_bytes": {**asdict(disk), "total": disk.total},
    }
