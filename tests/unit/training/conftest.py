"""A session of the loop over a tiny model and made-up rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afina.data.labels import LabelSpace

NAMES = {"multiclass": ("kitchen", "music", "weather"), "multilabel": ("kitchen", "music", "weather"), "regression": ()}


@pytest.fixture
def open_session(make_setup: Callable[..., Any], encode_part: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """`open_session(technique, kind, folder=..., rows=..., epochs=..., state=..., **training)`: ready for `fit`.

    The same arguments give the same session, down to the last bit of its weights.
    """
    import torch

    from afina.config.load import build_config
    from afina.tasks.base import TaskState
    from afina.tasks.registry import make_task
    from afina.techniques.registry import make_technique
    from afina.training.checkpoint import CheckpointStore
    from afina.training.memory_guard import MemoryGuard
    from afina.training.objective import LabelledRows
    from afina.training.optim import make_optimizer
    from afina.training.session import Session, start_accelerator
    from afina.training.signals import StopSignals

    def build(
        technique: str = "full",
        kind: str = "multiclass",
        family: str = "bert",
        folder: str = "run",
        rows: int = 20,
        epochs: int = 2,
        state: TaskState | None = None,
        **training: Any,
    ) -> Session:
        outputs = len(NAMES[kind]) or 1
        setup = make_setup(family, technique, outputs=outputs, training=training)
        torch.manual_seed(0)
        loaded = make_technique(technique).load(setup)
        torch.manual_seed(0)  # as in a run: what loading draws, and in which order, depends on its threads
        model = make_technique(technique).prepare(loaded, setup)
        training = {"head_init": "random", **training}  # these heads are not solved
        config = build_config({"technique": technique, "training": training}).training
        name = "text-regression" if kind == "regression" else "text-classification"
        rate = 1e-2 if config.learning_rate == "auto" else config.learning_rate
        (tmp_path / folder).mkdir(exist_ok=True)
        return Session(
            model=model,
            optimizer=make_optimizer(model, rate, config.weight_decay),
            accelerator=start_accelerator("cpu", "fp32"),
            objective=LabelledRows(
                task=make_task(name, LabelSpace(kind, NAMES[kind])),  # type: ignore[arg-type]
                state=state or TaskState(),
                train=encode_part(family, "train", kind, rows, 0),
                validation=encode_part(family, "validation", kind, 8, 1),
                pad_id=setup.pad_token_id,
                eval_tokens_per_batch=256,
            ),
            config=config,
            learning_rate=rate,
            epochs=epochs,
            seed=3,
            store=CheckpointStore(tmp_path / folder / "checkpoints", config.save_total_limit),
            signals=StopSignals(),
            memory=MemoryGuard("cpu", config.check_memory),
            evaluates_start=config.head_init == "probe",
        )

    return build


@pytest.fixture
def language_rows() -> Any:
    """The objective of a language model over rows of many lengths, the last two thirds of each learned."""
    import numpy as np

    from afina.data.encode import TokenArrays
    from afina.data.encode_conversations import TrainedRows
    from afina.training.next_tokens import NextTokens

    lengths = [5, 12, 3, 20, 8, 9, 2]
    ids = np.random.default_rng(0).integers(0, 200, sum(lengths)).astype(np.int32)
    marks = np.asarray([place >= max(1, length // 3) for length in lengths for place in range(length)], np.uint8)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = TrainedRows("train", TokenArrays(ids, offsets, None, 0, 0), marks, np.arange(1, len(lengths) + 1))
    return NextTokens(rows, rows, pad_id=2, eval_tokens_per_batch=32)
