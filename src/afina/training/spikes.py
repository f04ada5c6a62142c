"""Sudden rises of the loss or of the gradient: told, counted and written down, never smoothed away or rolled back.

A value is compared with the ones before it by their median and their median distance from it, which a spike itself
hardly moves. Both are taken of logarithms, since losses and norms differ by factors: a loss that is usually between
0.001 and 0.1 has no spike at 0.3.
"""

from __future__ import annotations

import math
from statistics import median

from afina.training.events import Incident, notify
from afina.training.gradients import Gradient
from afina.training.session import Session

# Steps that are looked back on, and how many of them there must be.
WINDOW, LEAST = 64, 16
DEVIATIONS = 6.0
# A standard deviation in median distances, for normally distributed values.
SCALE = 1.4826
# Values that hardly vary have no spike at a tenth more.
LEAST_DEVIATION = math.log(1.05)
SMALLEST = 1e-12
NAMES = {"loss": "loss", "grad_norm": "gradient's norm"}


def watch_for_spikes(session: Session, gradient: Gradient) -> None:
    """Compare a step with the ones before it, and remember it."""
    for what, value in (("loss", gradient.loss), ("grad_norm", gradient.norm)):
        recent = session.progress.recent.setdefault(what, [])
        usual = median(recent) if recent else value
        if is_spike(value, recent) and not was_told(session, what):
            tell_spike(session, what, value, usual)
        recent.append(value)
        del recent[:-WINDOW]


def is_spike(value: float, recent: list[float]) -> bool:
    """Whether a value lies far above recent ones."""
    if len(recent) < LEAST:
        return False
    logs = [math.log(max(each, SMALLEST)) for each in recent]
    middle = median(logs)
    deviation = max(LEAST_DEVIATION, SCALE * median(abs(each - middle) for each in logs))
    return math.log(max(value, SMALLEST)) > middle + DEVIATIONS * deviation


def was_told(session: Session, what: str) -> bool:
    """Whether the same rise was told a few steps ago: until the median has followed, a lasting one is a spike anew."""
    told = [each["step"] for each in session.progress.spikes if each["what"] == what]
    return bool(told) and session.progress.step - told[-1] < WINDOW // 2


def tell_spike(session: Session, what: str, value: float, usual: float) -> None:
    """Count it and say it."""
    step = session.progress.step + 1
    values = {"step": step, "what": what, "value": value, "usual": usual}
    session.progress.spikes.append(values)
    text = f"step {step}: the {NAMES[what]} jumps to {value:.3g}, where {usual:.3g} was usual"
    notify(session.callbacks, "on_incident", step, Incident("spike", text, values))
