"""Settings that do nothing where they are given: those that the task doesn't read. Those of techniques are refused in
`config/load.py`; the task may be known only once the rows are read, so these are told.
"""

from __future__ import annotations

from typing import Any

from afina.config.run import RunConfig

OF_LANGUAGE = (
    "data.messages_column", "data.prompt_column", "data.completion_column", "data.train_on", "data.packing",
    "model.chat_template", "model.chat_template_kwargs", "evaluation.generation_samples", "evaluation.max_new_tokens",
    "evaluation.general_text",
)  # fmt: skip
OF_LABELS = (
    "data.text_pair_column", "data.label_column", "data.label_separator", "training.class_weight", "features.pooling",
    "features.folds", "evaluation.baselines", "evaluation.hardest_errors",
)  # fmt: skip


def list_unread(config: RunConfig, *, is_generation: bool) -> list[str]:
    """A note on each setting that isn't its default, and that the task doesn't read."""
    defaults, task = RunConfig(), "text-generation" if is_generation else "a task with labels"
    return [
        f"{path}: {task} doesn't read it, so it does nothing here"
        for path in (OF_LABELS if is_generation else OF_LANGUAGE)
        if find_value(config, path) != find_value(defaults, path)
    ]


def find_value(config: RunConfig, path: str) -> Any:
    """The value of a setting."""
    section, _, name = path.partition(".")
    return getattr(getattr(config, section), name)
