"""Conversations: who speaks after whom, turns that say nothing, and an answer that is missing at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from afina.data.bad_rows import MEND
from afina.data.chat_messages import check_messages
from afina.data.chat_template import ChatFaultError
from afina.data.doctor.check import Check
from afina.data.doctor.finding import Finding, shorten
from afina.data.doctor.found_rows import FoundRows
from afina.data.doctor.subject import Batch, Subject, text_of
from afina.wording import count

PREAMBLE = ("system", "developer")
# What each kind of trouble is called, what it means, what to do, and whether a run stops on it.
ODD = {
    "no-final-answer": (
        "whose last turn is not the assistant's",
        "what is asked last has no answer; only earlier answers are learned",
        "add the answer, or cut the last turn off",
    ),
    "turn-order": (
        "in which turns don't alternate, or the system speaks late",
        "chat templates join such turns or refuse them, and the model sees an order that it never meets in use",
        "join turns of the same speaker, and put the system's first",
    ),
    "empty-turns": (
        "with a turn that says nothing",
        "the model learns to answer nothing",
        "fill these turns, or leave the rows out",
    ),
}


class Turns(Check):
    """The order and the content of turns."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.odd = {code: FoundRows(subject) for code in ODD}
        self.refused: dict[str, FoundRows] = {}

    def applies(self) -> bool:
        return self.subject.kind == "conversations"

    def look(self, batch: Batch) -> None:
        for place, row in enumerate(batch.rows):
            if "messages" not in row:
                continue
            try:
                check_messages(row["messages"])
            except ChatFaultError as fault:
                refused = self.refused.setdefault(str(fault), FoundRows(self.subject))
                refused.add(batch, place, shorten(fault.detail) if fault.detail else None)
                continue
            for code in find_oddities(row["messages"]):
                self.odd[code].add(batch, place)

    def findings(self) -> Iterator[Finding]:
        for reason, found in self.refused.items():
            title = f"{count(len(found), 'row')} with {reason}"
            yield found.describe("unusable-row", "error", title, "a run stops before it begins, and lists them", MEND)
        for code, (what, meaning, remedy) in ODD.items():
            if self.odd[code]:
                title = f"{count(len(self.odd[code]), 'conversation')} {what}"
                yield self.odd[code].describe(code, "warning", title, meaning, remedy)


def find_oddities(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The codes of what is odd about the turns."""
    speakers = [str(message["role"]) for message in messages]
    found = [] if speakers[-1] == "assistant" else ["no-final-answer"]
    spoken = [speaker for speaker in speakers if speaker not in PREAMBLE]
    is_late = any(speaker in PREAMBLE for speaker in speakers[len(speakers) - len(spoken) :])
    # Several tools may answer after one another, and a tool's answer is followed by the assistant's.
    repeats = any(first == second != "tool" for first, second in pairwise(spoken))
    if is_late or repeats or spoken[:1] == ["tool"]:
        found.append("turn-order")
    if any(not text_of(message).strip() and not message.get("tool_calls") for message in messages):
        found.append("empty-turns")
    return found
