"""The technique of a language model, chosen from the tokens to learn and from what fits into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afina.config.reason import Reason
from afina.config.resolve import Sizes, resolve_for
from afina.config.run import GENERATION, RunConfig
from afina.errors import MissingExtraError
from afina.models.inspect import ModelFacts
from afina.pipeline.costs import check_memory_fits, list_fits, resolve_by_technique
from afina.pipeline.narrator import Narrator
from afina.techniques.base import Setup

if TYPE_CHECKING:
    from afina.advice.workload import Workload

# Adapters are the usual first guess, and what decides the length of rows doesn't depend on the technique.
FIRST_GUESS = "lora"
# What needs the least memory.
SMALLEST = "qlora"


def choose_technique(
    given: RunConfig, setup: Setup, facts: ModelFacts, sizes: Sizes, workload: Workload, learned_tokens: int,
    narrator: Narrator,
) -> str:  # fmt: skip
    """The technique to take.

    Args:
        given: the description before `auto` was resolved, but for the hardware.
        learned_tokens: of the training part.

    Raises:
        MissingExtraError: if all that fits is a technique that isn't installed.
    """
    from afina.advice.choose import choose_language_technique

    configs = resolve_by_technique(given, GENERATION, sizes)
    device = str(given.training.device)
    with narrator.stage("choose"):
        found = check_memory_fits(configs, setup, facts, workload, device)
        adapter = found["lora"].trainable or facts.parameters // 100
        choice = choose_language_technique(learned_tokens, adapter, facts.parameters, list_fits(found))
        if choice is None and SMALLEST not in configs:
            smallest = {SMALLEST: resolve_for(given, SMALLEST, sizes)[0]}
            if check_memory_fits(smallest, setup, facts, workload, device)[SMALLEST].fits:
                raise MissingExtraError("bitsandbytes", "qlora", "qlora, the only technique that fits into memory,")
    # Where nothing fits, the smallest is tried, so that the refusal says what would make it fit.
    name = choice.technique if choice else list(configs)[-1]
    if choice:
        narrator.explain(Reason("technique", name, choice.reason, choice.otherwise))
    return name
