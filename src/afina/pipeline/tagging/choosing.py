"""The technique for tagged words, where none is given: by memory, since a head on frozen features is seldom enough."""

from __future__ import annotations

from afina.advice.choose import choose_tagging_technique
from afina.config.reason import Reason
from afina.config.techniques import FIRST_LOOK
from afina.pipeline.choosing import check_techniques, resolve_candidates, tell_unread
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import Prepared, change_technique


def settle_technique(prepared: Prepared, narrator: Narrator) -> Prepared:
    """The same rows for the first technique that fits: full, lora, qlora, else the head alone."""
    fits = check_techniques(prepared, resolve_candidates(prepared))
    choice = choose_tagging_technique(prepared.facts.parameters, fits)
    narrator.explain(Reason("technique", choice.technique, choice.reason, choice.otherwise))
    if choice.technique != FIRST_LOOK:
        prepared = change_technique(prepared, choice.technique, narrator)
    tell_unread(prepared, narrator)
    return prepared
