"""The technique for tagged words, where none is given: by memory, since a head on frozen features is seldom enough."""

from __future__ import annotations

from afina.config.reason import Reason
from afina.config.resolve import resolve_config
from afina.models.four_bits import import_bitsandbytes
from afina.pipeline.costs import find_fitting
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import FIRST_LOOK, Prepared, change_technique, describe_workload, list_facts

WHY = {
    "full": "a word's tag depends on the words around it, which a backbone that moves learns; it starts from the solved"
    " head, and the validation rows say if it got better",
    "lora": "full fine-tuning doesn't fit into the memory, adapters do",
    "qlora": "neither full fine-tuning nor adapters fit into the memory, but with a base in 4 bits they do",
    FIRST_LOOK: "nothing that moves the backbone fits into the memory",
}


def settle_technique(prepared: Prepared, narrator: Narrator) -> Prepared:
    """The same rows for the first technique that fits: full, lora, qlora, else the head alone."""
    sizes = list_facts(len(prepared.parts["train"]), prepared.facts, prepared.examples.labels)
    names = [name for name in ("full", "lora", "qlora") if name != "qlora" or import_bitsandbytes() is not None]
    configs = {name: resolve_config(prepared.given.model_copy(update={"technique": name}), sizes)[0] for name in names}
    fitting = find_fitting(configs, prepared.setup, prepared.facts, describe_workload(prepared.parts), prepared.device)
    chosen = next((name for name in names if fitting[name].fits), FIRST_LOOK)
    otherwise = ("less memory: lora, qlora or feature-extraction",) if chosen == "full" else ()
    narrator.explain(Reason("technique", chosen, WHY[chosen], otherwise))
    return prepared if chosen == FIRST_LOOK else change_technique(prepared, chosen, narrator)
