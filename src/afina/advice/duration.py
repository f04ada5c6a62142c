"""How long a run takes: its arithmetic and bytes over the rates of the machine, times a factor for each kind of work.

Products a token, for M numbers that it is multiplied with (embeddings are looked up, not multiplied):
forward 2 M; backward 4 M if all weights move, 2 M if they are frozen and only carry the gradient on. Attention adds
4 T D for each token of a row of T tokens in each block of width D, and twice that backward. A step of AdamW reads and
writes 28 bytes for each trainable number. The factors are in `factors.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from afina.advice.factors import Factors
from afina.advice.machine import Rates
from afina.advice.outline import Outline
from afina.kernels.attention import KEPT_BYTES

ADAMW_BYTES = 28
# Of each logit in fp32: written, read for the softmax, read and written for the gradient.
LOGIT_BYTES = 20


@dataclass(frozen=True)
class Work:
    """What a pass does, by kind; seconds are these over the rates, times the factors."""

    products: float = 0.0
    """Floating-point operations of matrix products."""
    attention: float = 0.0
    """Those of attention."""
    passes: float = 0.0
    """Bytes of activations."""
    optimizer: float = 0.0
    loss: float = 0.0
    unpacking: float = 0.0
    blocks: float = 0.0
    """Blocks run through."""
    dropped: float = 0.0
    """Numbers that torch's dropout draws before adapters."""

    def __add__(self, other: Work) -> Work:
        return Work(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def times(self, count: float) -> Work:
        """The work done so many times."""
        return Work(**{name: value * count for name, value in asdict(self).items()})


@dataclass(frozen=True)
class Durations:
    """Seconds."""

    epoch: float
    """One pass over the training rows, its evaluation and its checkpoint included."""
    total: float
    """The whole run."""


def count_forward(outline: Outline, rows: float, tokens: float, learned: float) -> Work:
    """The work of a pass without gradients over rows of so many tokens."""
    return Work(
        products=2.0 * outline.multiplied * rows * tokens + 2.0 * outline.head * learned,
        attention=4.0 * outline.attention_width * outline.layers * rows * tokens**2,
        passes=8.0 * outline.hidden_size * outline.layers * rows * tokens,
        loss=LOGIT_BYTES / 2 * learned * (outline.head / outline.hidden_size),
        unpacking=2.0 * outline.quantised,
        blocks=outline.layers / 2,
    )


def count_training(
    outline: Outline, moves: str, rows: float, tokens: float, learned: float, kept_bytes: float, recomputes: bool
) -> Work:
    """The work of a forward and a backward pass over rows of so many tokens."""
    backward = 2.0 if moves == "all" else 1.0
    forwards = 2.0 if recomputes else 1.0
    heads = 3.0 if outline.head_trains else 2.0
    area = outline.attention_width * outline.layers * rows * tokens**2
    # Where probabilities aren't kept they are computed again.
    again = 1.0 if rows * tokens**2 * 2 * (outline.attention_width / 64) > KEPT_BYTES else 0.0
    products = outline.multiplied * rows * tokens
    return Work(
        products=2.0 * products * (forwards + backward) + 6.0 * outline.adapter * rows * tokens
        + 2.0 * heads * outline.head * learned,
        attention=4.0 * area * (forwards + 2.0 + again / 2),
        passes=kept_bytes * (forwards + 1.0) / 2,
        loss=LOGIT_BYTES * learned * (outline.head / outline.hidden_size),
        unpacking=2.0 * outline.quantised * (forwards + 1.0),
        blocks=outline.layers * (forwards + 1.0) / 2,
        dropped=outline.dropped * rows * tokens,
    )  # fmt: skip


def count_step(outline: Outline) -> Work:
    """The optimizer's work."""
    return Work(optimizer=float(ADAMW_BYTES * outline.stepped))


def estimate_terms(work: Work, rates: Rates) -> dict[str, float]:
    """Seconds of each kind of work at the machine's rates, before any factor."""
    return {
        "products": work.products / rates.products,
        "attention": work.attention / rates.products,
        "passes": work.passes / rates.bandwidth,
        "optimizer": work.optimizer / rates.bandwidth,
        "loss": work.loss / rates.bandwidth,
        "unpacking": work.unpacking / rates.bandwidth,
        "blocks": work.blocks,
        "dropped": work.dropped,
    }


def apply_factors(terms: Mapping[str, float], factors: Factors) -> float:
    """Seconds in all of these terms."""
    known = factors.as_dict()
    return sum(seconds * known[name] for name, seconds in terms.items())


def estimate_seconds(work: Work, rates: Rates) -> float:
    """Seconds of the work."""
    return apply_factors(estimate_terms(work, rates), rates.factors)
