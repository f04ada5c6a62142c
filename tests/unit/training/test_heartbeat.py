"""The loop tells its state at every event, and rates of what really goes by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from afina.training.callbacks import heartbeat
from afina.training.callbacks.heartbeat import Heartbeat, Rates
from afina.training.loop import fit


def test_states_come_as_the_loop_goes(open_session: Callable[..., Any]) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    session = open_session(rows=8, epochs=1, per_device_train_batch_size=4, save_steps=1, head_init="probe")
    session.callbacks = (Heartbeat(lambda state, **values: told.append((state, values))),)
    fit(session)
    assert [state for state, _ in told] == [
        "training",  # begins
        "evaluating", "training", "saving", "training",  # the solved head
        "training", "saving", "training",  # step 1 and its checkpoint
        "training", "evaluating", "training", "saving", "training",  # step 2, the end of the epoch
        "evaluating",  # what comes after the loop
    ]  # fmt: skip
    assert told[0][1] == {"step": 0, "total_steps": 2, "epochs": 1}
    step = told[5][1]
    assert step["step"] == 1
    assert step["epoch"] == 0.5
    assert step["loss"] > 0
    assert step["rows_per_second"] > 0
    assert step["tokens_per_second"] > step["rows_per_second"]
    assert step["seconds_left"] >= 0
    assert told[8][1]["seconds_left"] == 0
    assert told[-1][1] == {"step": 2, "seconds_left": None}


def test_rates_are_of_the_last_minute() -> None:
    rates = Rates(0.0)
    for second in range(1, 11):
        rates.add(second, 4, 100)
    assert rates.describe(5) == {"rows_per_second": 4.0, "tokens_per_second": 100.0, "seconds_left": 5.0}
    for step in range(1, 11):  # ten times slower now
        rates.add(10 + 10 * step, 4, 100)
    assert rates.describe(5)["rows_per_second"] == pytest.approx(0.4)
    assert len(rates.marks) <= 8


def test_a_clock_that_stands_still_gives_no_error() -> None:
    rates = Rates(5.0)
    rates.add(5.0, 4, 100)
    assert rates.describe(1)["seconds_left"] == 0.0
    assert heartbeat.RATE_SECONDS > 0
