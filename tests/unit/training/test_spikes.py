"""A sudden rise is told once, whatever the scale of what was usual, and plain noise isn't."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from afina.training.events import Callback, Incident
from afina.training.gradients import Gradient
from afina.training.spikes import LEAST, WINDOW, is_spike, watch_for_spikes


class Listener(Callback):
    def __init__(self) -> None:
        self.incidents: list[Incident] = []

    def on_incident(self, step: int, incident: Incident) -> None:
        self.incidents.append(incident)


@pytest.fixture
def watch(open_session: Callable[..., Any]) -> Callable[..., Any]:
    """`watch(losses, norms)`: the session and its listener after so many steps."""

    def run(losses: Any, norms: Any | None = None) -> tuple[Any, Listener]:
        session, listener = open_session(), Listener()
        session.callbacks = (listener,)
        norms = [1.0] * len(losses) if norms is None else norms
        for loss, norm in zip(losses, norms, strict=True):
            watch_for_spikes(session, Gradient(float(loss), float(norm)))
            session.progress.step += 1
        return session, listener

    return run


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_rise_is_told_with_what_was_usual(scale: float, watch: Callable[..., Any]) -> None:
    noise = scale * (2 + 0.1 * np.random.default_rng(0).standard_normal(40))
    session, listener = watch([*noise, 5 * scale])
    values = {"step": 41, "what": "loss", "value": 5 * scale, "usual": float(np.median(noise))}
    text = f"step 41: the loss jumps to {5 * scale:.3g}, where {values['usual']:.3g} was usual"
    assert listener.incidents == [Incident("spike", text, values)]
    assert session.progress.spikes == [values]


def test_a_rise_of_the_gradient_is_told(watch: Callable[..., Any]) -> None:
    _, listener = watch([1.0] * 31, [0.5] * 30 + [50.0])
    assert [each.text for each in listener.incidents] == [
        "step 31: the gradient's norm jumps to 50, where 0.5 was usual"
    ]


def test_what_falls_or_varies_is_no_spike(watch: Callable[..., Any]) -> None:
    random = np.random.default_rng(0)
    falling = 3 * np.exp(-np.arange(400) / 60) * np.exp(0.3 * random.standard_normal(400))
    norms = np.exp(0.8 * random.standard_normal(400))
    assert watch(falling, norms)[1].incidents == []
    assert watch([0.0] * 40)[1].incidents == []


def test_a_lasting_rise_is_told_once(watch: Callable[..., Any]) -> None:
    _, listener = watch([1.0] * 64 + [4.0] * 200)
    assert len(listener.incidents) == 1
    _, listener = watch([1.0] * 64 + [4.0] + [1.0] * WINDOW + [4.0])
    assert len(listener.incidents) == 2


def test_too_few_steps_tell_nothing() -> None:
    assert not is_spike(1e9, [1.0] * (LEAST - 1))
    assert is_spike(1e9, [1.0] * LEAST)


def test_only_so_many_steps_are_remembered(watch: Callable[..., Any]) -> None:
    session, _ = watch(range(1, 200))
    assert session.progress.recent["loss"] == list(range(200 - WINDOW, 200))
