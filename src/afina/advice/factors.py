"""How well each kind of work uses the machine; `python benchmarks/advice.py calibrate CELLS --write` fits the first
eight to real runs, on a machine of the one kind or the other.

Each is time taken over time at the measured rate (products per second, bytes per second), but for `blocks` and
`dropped`, which are seconds. Where AMX multiplies matrices, what lies between the products is most of a step; elsewhere
it hides behind them, and a fit can't tell the two apart.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Factors:
    """For each kind of `afina.advice.duration.Work`."""

    products: float
    """Matrix products."""
    attention: float
    """Products of queries with keys and of weights with values, the softmax between them included."""
    passes: float
    """Bytes that a forward pass keeps, each of which is written, read and turned into a gradient."""
    optimizer: float
    """Bytes of weights, gradients and moments in one step."""
    loss: float
    """Bytes of a language model's logits."""
    unpacking: float
    """Bytes of weights that are unpacked from 4 bits."""
    blocks: float
    """Seconds of the calls of one block, forward and backward, however small the tensors."""
    dropped: float
    """Seconds of each number that torch's dropout draws and multiplies before an adapter, both ways."""

    def as_dict(self) -> dict[str, float]:
        """By kind."""
        return asdict(self)


# Two cores of an AMD EPYC with AVX512-BF16.
WITHOUT_AMX = Factors(
    products=1.51, attention=3.05, passes=0, optimizer=0.929, loss=8.66, unpacking=10.1, blocks=0.00196, dropped=0
)
# Two cores of a virtual machine with Sapphire Rapids processors.
WITH_AMX = Factors(
    products=1, attention=1, passes=27, optimizer=2.77, loss=9.43, unpacking=24.1, blocks=0.00673, dropped=2.15e-08
)
START_SECONDS = 5.0
"""Imports, reading and checking, which every run has."""
SECONDS_A_BYTE = 1e-9
"""Loading, saving and loading the saved model again, for each byte of weights."""
