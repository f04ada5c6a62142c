"""The form of a check: it is told of all rows once, batch by batch, and then says what it found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from afina.data.doctor.finding import Finding
from afina.data.doctor.subject import Batch, Subject


class Check:
    """One kind of finding. A subclass says what it looks at; `registry.CHECKS` lists it.

    Args:
        subject: the data.
    """

    reads_texts: ClassVar[bool] = True
    """Whether it must see the texts. The checks that needn't are cheap, and every training run makes them."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def applies(self) -> bool:
        """Whether it has anything to say about this kind of data."""
        return True

    def look(self, batch: Batch) -> None:
        """Take note of some rows; parts come one after the other, rows in their order."""

    def facts(self) -> dict[str, Any]:
        """What is neither right nor wrong."""
        return {}

    def findings(self) -> Iterable[Finding]:
        """What was found, once all rows were seen."""
        return ()
