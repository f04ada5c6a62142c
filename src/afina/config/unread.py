"""Settings that do nothing where they are given: those that the technique or the task doesn't read.

Where the technique is given too, `config/load.py` refuses the sections that belong to another one. All else is told:
settings of the training's steps, so that several techniques can be tried with one description; what a technique that
is chosen doesn't read; and what the task doesn't read, which may be known only once the rows are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from afina.config.run import GENERATION, RunConfig
from afina.config.techniques import ADAPTERS, AUTO, BY_STEPS, IN_4_BITS

OF_LANGUAGE = (
    "data.messages_column", "data.prompt_column", "data.completion_column", "data.train_on", "data.packing",
    "model.chat_template", "model.chat_template_kwargs", "evaluation.generation_samples", "evaluation.max_new_tokens",
    "evaluation.general_text",
)  # fmt: skip
OF_LABELS = (
    "data.text_pair_column", "data.label_column", "data.label_separator", "training.class_weight", "features.pooling",
    "features.folds", "evaluation.baselines", "evaluation.hardest_errors",
)  # fmt: skip
# Of the training loop, which feature-extraction has none of: its head is solved.
OF_STEPS = tuple(f"training.{name}" for name in (
    "learning_rate", "num_train_epochs", "max_steps", "eval_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "weight_decay", "lr_scheduler_type", "warmup_ratio", "max_grad_norm",
    "max_skipped_steps", "dropout", "objective", "head_init", "early_stopping_patience", "save_steps",
    "save_every_minutes", "save_total_limit", "logging_steps", "gradient_checkpointing", "lazy_embeddings",
))  # fmt: skip
# Sections that only some techniques read, with those; and settings.
SECTIONS: dict[str, tuple[str, ...]] = {"lora": (*ADAPTERS, AUTO), "quantization": (*IN_4_BITS, AUTO)}
READ_BY = {**SECTIONS, **dict.fromkeys(OF_STEPS, (*BY_STEPS, AUTO))}


def list_unread(config: RunConfig, *, is_generation: bool) -> list[str]:
    """A note on each setting that isn't its default, and that the task or the technique that is given doesn't read."""
    defaults, task = RunConfig(), GENERATION if is_generation else "a task with labels"
    unread = dict.fromkeys(OF_LABELS if is_generation else OF_LANGUAGE, task)
    unread |= {path: config.technique for path in OF_STEPS if config.technique not in READ_BY[path]}
    return [
        f"{path}: {reader} doesn't read it, so it does nothing here"
        for path, reader in unread.items() if find_value(config, path) != find_value(defaults, path)
    ]  # fmt: skip


def group_unread(
    technique: str, paths: Iterable[str], read_by: Mapping[str, tuple[str, ...]] = READ_BY
) -> dict[tuple[str, ...], list[str]]:
    """Those of some settings that a technique doesn't read, sorted, by the techniques that do."""
    found: dict[tuple[str, ...], list[str]] = {}
    for path in sorted(paths):
        readers = read_by.get(path) or read_by.get(path.partition(".")[0])
        if readers and technique not in readers:
            found.setdefault(readers, []).append(path)
    return found


def leave_unread_out(tree: Mapping[str, Any], technique: str) -> dict[str, Any]:
    """The settings of a description without those that the technique doesn't read."""
    unread = {name for name, readers in READ_BY.items() if technique not in readers}
    return {
        section: {name: each for name, each in value.items() if f"{section}.{name}" not in unread}
        if isinstance(value, Mapping) else value
        for section, value in tree.items() if section not in unread
    }  # fmt: skip


def find_value(config: RunConfig, path: str) -> Any:
    """The value of a setting."""
    section, _, name = path.partition(".")
    return getattr(getattr(config, section), name)
