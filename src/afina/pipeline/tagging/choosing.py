"""The technique for tagged words, where none is given: by memory, since a head on frozen features is seldom enough."""

from __future__ import annotations

from afina.advice.choose import choose_tagging_technique
from afina.config.reason import Reason
from afina.config.resolve import resolve_config
from afina.config.techniques import FIRST_LOOK
from afina.pipeline.choosing import tell_unread
from afina.pipeline.costs import find_fitting
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import Prepared, change_technique, describe_workload, list_facts
from afina.techniques.registry import list_moving


def settle_technique(prepared: Prepared, narrator: Narrator) -> Prepared:
    """The same rows for the first technique that fits: full, lora, qlora, else the head alone."""
    sizes = list_facts(len(prepared.parts["train"]), prepared.facts, prepared.examples.labels)
    names = list_moving(prepared.task.name)
    configs = {name: resolve_config(prepared.given.model_copy(update={"technique": name}), sizes)[0] for name in names}
    workload = describe_workload(prepared.parts)
    fitting = find_fitting(configs, prepared.setup, prepared.facts, workload, prepared.device)
    choice = choose_tagging_technique(prepared.facts.parameters, {name: each.fits for name, each in fitting.items()})
    narrator.explain(Reason("technique", choice.technique, choice.reason, choice.otherwise))
    if choice.technique != FIRST_LOOK:
        prepared = change_technique(prepared, choice.technique, narrator)
    tell_unread(prepared, narrator)
    return prepared
