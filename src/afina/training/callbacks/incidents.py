"""Says what went wrong in a step at the moment it does."""

from __future__ import annotations

from collections.abc import Callable

from afina.training.events import Callback, Incident


class IncidentTeller(Callback):
    """Says one line for each incident.

    Args:
        say: takes the line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say

    def on_incident(self, step: int, incident: Incident) -> None:
        self.say(incident.text)
