"""A run whose best checkpoint is lost ends with the best that is left, and says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from afina.techniques.base import iterate_trainable
from afina.training import loop
from afina.training.events import Callback
from afina.training.loop import Session, fit

RUN = {"rows": 6, "epochs": 4, "per_device_train_batch_size": 3, "learning_rate": 1e-3, "save_total_limit": 2}
STEPS_AN_EPOCH = 2


def take_weights(session: Session) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in iterate_trainable(session.model)}


class Watcher(Callback):
    """Keeps the weights after each step, and breaks the checkpoint of one step once the last epoch was measured."""

    def __init__(self, session: Session, broken: int) -> None:
        self.session, self.broken = session, broken
        self.weights: dict[int, dict[str, torch.Tensor]] = {}

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        self.weights[step] = take_weights(self.session)

    def on_evaluate_end(self, step: int, values: dict[str, float]) -> None:
        if step == STEPS_AN_EPOCH * 4:
            (self.session.store.folder / f"step-{self.broken:08d}" / "state.json").unlink()


def measure_as_told(losses: Mapping[int, float], session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A validation loss for the weights of each step, whenever they are measured."""

    def look_up() -> dict[str, float]:
        now = take_weights(session)
        watcher = session.callbacks[0]
        assert isinstance(watcher, Watcher)
        for step, weights in watcher.weights.items():
            if all(torch.equal(weights[name], value) for name, value in now.items()):
                return {"loss": losses[step], "accuracy": 0.5}
        raise AssertionError("weights of no step")

    monkeypatch.setattr(loop, "eval_step", lambda session: look_up())
    monkeypatch.setattr(type(session.objective), "evaluate", lambda *arguments: look_up())


@pytest.mark.parametrize(
    ("losses", "taken"),
    [({2: 1, 4: 4, 6: 3, 8: 2}, 8), ({2: 1, 4: 4, 6: 2, 8: 3}, 6)],
    ids=["the model as it stands", "an older checkpoint"],
)
def test_the_next_best_is_taken(
    losses: dict[int, float], taken: int, open_session: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, said = open_session(**RUN), []
    session.store.say = said.append
    watcher = Watcher(session, broken=2)
    session.callbacks = (watcher,)
    measure_as_told(losses, session, monkeypatch)
    fit(session)
    for name, value in take_weights(session).items():
        assert torch.equal(value, watcher.weights[taken][name])
    assert session.progress.best_step == taken
    assert session.progress.best_loss == losses[taken]
    assert said == [
        f"the best checkpoint, of step 2, is damaged or was never written; the result is step {taken}, the best of the"
        " 2 that are left (validation loss 2.0000)"
    ]
