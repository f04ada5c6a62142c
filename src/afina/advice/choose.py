"""Which technique to take, from evidence and from what fits the machine; each choice with its reason.

The prior is the table that people choose by (little data: feature extraction; moderate data: LoRA; much data: full
fine-tuning; little memory: QLoRA). The evidence is the head on frozen features, which has been solved by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from afina.advice.evidence import Evidence

# Fewer rows than these teach a backbone less than they spoil, whatever the task.
FEWEST_ROWS = 200
FEWEST_ROWS_PER_CLASS = 8
# A head that errs in less than this leaves nothing that a person would pay for.
SMALL_ERROR = 0.01
# A head that tells its own training rows apart this well lacks rows, not a backbone that moves, ...
SEPARATED = 0.99
# ... unless words are ahead of it by more than this many standard errors: then the features leave out what is needed.
CLEAR_LEAD = 2.0
# Moved by pairs of rows, a backbone learns from fewer; but a class of one row has no pair to draw together.
FEWEST_ROWS_PER_CLASS_OF_PAIRS = 2
# Above so many parameters, the same rate of learning costs less memory and less forgetting beside frozen weights.
LARGE_PARAMETERS = 1_000_000_000

INSTALL = "pip install 'afina[qlora]'"
BY_PAIRS = ", since few rows make many pairs to learn from"


@dataclass(frozen=True)
class Choice:
    """A technique, why, and what would have led to another one."""

    technique: str
    reason: str
    otherwise: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For choice.json, and `choice` in report.json."""
        return {**asdict(self), "otherwise": list(self.otherwise)}


def choose_labelled_technique(
    evidence: Evidence, parameters: int, fits: Mapping[str, bool], *, by_pairs: bool = False
) -> Choice:
    """The technique for rows with labels.

    Args:
        parameters: of the model.
        fits: whether each technique fits into the memory of the machine; those that aren't installed are left out.
        by_pairs: whether a backbone would be moved by pairs of rows (`training/contrastive.py`), as few rows allow.
    """
    moving = choose_moving(parameters, fits)
    if moving is None:
        return Choice("feature-extraction", "nothing else fits into the memory of this machine", tell_missing(fits))
    shown = f"a head on frozen features has {evidence.skill} {evidence.probe:.3f} on new rows{tell_words(evidence)}"
    halt = find_halt_of_pairs(evidence) if by_pairs else find_halt(evidence)
    if halt is not None:
        why, remedy = halt
        return Choice("feature-extraction", f"{shown}; {why}", (f"{remedy}: {moving.technique}",))
    return Choice(
        moving.technique, f"{shown}, so more may pay{BY_PAIRS if by_pairs else ''}; {moving.reason}",
        (*moving.otherwise, "no gain on the validation rows: the head stays the result"),
    )  # fmt: skip


def tell_words(evidence: Evidence) -> str:
    """What the plain model on words is worth, in words."""
    if evidence.words is None:
        return ""
    enough = ": word counts are enough" if evidence.words >= evidence.features else ""
    return f" (word counts {evidence.words:.3f}, the head {evidence.features:.3f} on the same rows{enough})"


def find_halt(evidence: Evidence) -> tuple[str, str] | None:
    """Why to stop at the head, and what would have led further; None if nothing says so."""
    if evidence.rows < FEWEST_ROWS:
        return f"{evidence.rows} rows are too few to move a backbone", f"{FEWEST_ROWS} training rows or more"
    if evidence.rows_per_class < FEWEST_ROWS_PER_CLASS:
        few = f"{evidence.rows_per_class:.0f} rows a class are too few to move a backbone"
        return few, f"{FEWEST_ROWS_PER_CLASS} rows a class or more"
    if 1 - evidence.probe < SMALL_ERROR:
        return "nothing is left that more would be worth", f"{evidence.skill} below {1 - SMALL_ERROR:.2f}"
    if evidence.learned >= SEPARATED and evidence.lead_of_words <= CLEAR_LEAD:
        known = f"it knows {evidence.learned:.1%} of its own rows, so it lacks rows rather than a backbone that moves"
        return known, f"less than {SEPARATED:.0%} of its own rows known, or words clearly ahead"
    return None


def find_halt_of_pairs(evidence: Evidence) -> tuple[str, str] | None:
    """The same where the backbone would move by pairs of rows: few rows don't speak against it, nor does a head that
    knows them all."""
    if evidence.rows_per_class < FEWEST_ROWS_PER_CLASS_OF_PAIRS:
        few = f"{evidence.rows_per_class:.1f} rows a class make no pairs"
        return few, f"{FEWEST_ROWS_PER_CLASS_OF_PAIRS} rows a class or more"
    if 1 - evidence.probe < SMALL_ERROR:
        return "nothing is left that more would be worth", f"{evidence.skill} below {1 - SMALL_ERROR:.2f}"
    return None


def choose_moving(parameters: int, fits: Mapping[str, bool]) -> Choice | None:
    """The technique that moves a backbone: all weights if they fit and aren't too many; None if nothing fits."""
    if fits.get("full") and parameters <= LARGE_PARAMETERS:
        return Choice(
            "full", f"all {parameters:,} weights fit into memory with their gradients and moments",
            (f"more than {LARGE_PARAMETERS:,} weights, or less memory: lora",),
        )  # fmt: skip
    if fits.get("lora"):
        why = f"{parameters:,} weights are many" if fits.get("full") else "full fine-tuning doesn't fit into memory"
        return Choice("lora", why, (tell_less_memory(fits),))
    if fits.get("qlora"):
        return Choice("qlora", "only a base in 4 bits fits into memory", ("more memory: lora",))
    return None


def tell_less_memory(fits: Mapping[str, bool]) -> str:
    """What would have led to QLoRA instead of LoRA."""
    return "less memory: qlora" if "qlora" in fits else f"less memory, and {INSTALL}: qlora"


def tell_missing(fits: Mapping[str, bool]) -> tuple[str, ...]:
    """What might have led to QLoRA where nothing else fits: nothing if it is installed and doesn't fit either."""
    return () if "qlora" in fits else (f"{INSTALL}, if a base in 4 bits fits: qlora",)


def choose_tagging_technique(parameters: int, fits: Mapping[str, bool]) -> Choice:
    """The technique where each word has a tag: one that moves the backbone, which learns what stands around a word."""
    moving = choose_moving(parameters, fits)
    if moving is None:
        return Choice("feature-extraction", "nothing that moves the backbone fits into memory", tell_missing(fits))
    why = "a word's tag depends on the words around it, which a moved backbone learns, from the solved head on"
    return Choice(moving.technique, f"{why}; {moving.reason}", moving.otherwise)


def choose_language_technique(
    learned_tokens: int, adapter_parameters: int, parameters: int, fits: Mapping[str, bool]
) -> Choice | None:
    """The technique for a language model; None if nothing fits.

    An adapter learns what a full fine-tuning would until the data holds more than it can ("LoRA Without Regret",
    Thinking Machines, 2025), for which the learned tokens beside its parameters are a rough measure.

    Args:
        learned_tokens: in the training rows.
        adapter_parameters: of LoRA with the run's settings.
    """
    room = f"{learned_tokens:,} tokens to learn, {adapter_parameters:,} parameters of an adapter"
    is_full = learned_tokens > adapter_parameters and parameters <= LARGE_PARAMETERS
    if is_full and fits.get("full"):
        return Choice("full", f"{room}: more than it may hold", (f"fewer than {adapter_parameters:,} tokens: lora",))
    if fits.get("lora"):
        why = "all weights don't fit into memory" if is_full else "it learns what full fine-tuning would, in less room"
        more = f"more than {adapter_parameters:,} tokens and memory for all weights: full"
        return Choice("lora", f"{room}: {why}", (more, tell_less_memory(fits)))
    if fits.get("qlora"):
        return Choice("qlora", f"{room}; only a base in 4 bits fits into memory", ("more memory: lora",))
    return None


def guess_technique(
    rows: int,
    learned_tokens: int,
    adapter_parameters: int,
    parameters: int,
    fits: Mapping[str, bool],
    *,
    by_pairs: bool = False,
    of_words: bool = False,
) -> Choice | None:
    """The prior, before anything is computed: what to begin with; None if nothing fits.

    Args:
        rows: training rows.
        learned_tokens: in the training rows of a language model; 0 for rows with labels.
        by_pairs: as in `choose_labelled_technique`.
        of_words: whether each word has a tag.
    """
    if of_words:
        return choose_tagging_technique(parameters, fits)
    if learned_tokens:
        return choose_language_technique(learned_tokens, adapter_parameters, parameters, fits)
    moving = choose_moving(parameters, fits)
    is_few = rows < FEWEST_ROWS and not by_pairs
    if is_few or moving is None:
        why = f"{rows} rows are few" if is_few else "nothing else fits into memory"
        return Choice("feature-extraction", why) if fits.get("feature-extraction") else None
    look = "afina train without --technique solves a head first, and moves the backbone only where that may pay"
    pairs = BY_PAIRS if by_pairs else ""
    return Choice(moving.technique, f"{rows:,} rows{pairs}, and {moving.reason}; {look}", moving.otherwise)
