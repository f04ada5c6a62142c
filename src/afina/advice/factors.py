"""How well each kind of work uses the machine; `python benchmarks/advice.py calibrate CELLS --write` fits the first
seven to real runs.

Each is time taken over time at the measured rate (products per second, bytes per second), but for the last three,
which are seconds.
"""

from __future__ import annotations

PRODUCTS = 1.51
"""Matrix products."""
ATTENTION = 3.05
"""Products of queries with keys and of weights with values, the softmax between them included."""
PASSES = 0
"""Bytes that a forward pass keeps, each of which is written, read and turned into a gradient."""
OPTIMIZER = 0.929
"""Bytes of weights, gradients and moments in one step."""
LOSS = 8.66
"""Bytes of a language model's logits."""
UNPACKING = 10.1
"""Bytes of weights that are unpacked from 4 bits."""
SECONDS_A_BLOCK = 0.00196
"""Calls of one block, forward and backward, however small the tensors."""
START_SECONDS = 5.0
"""Imports, reading and checking, which every run has."""
SECONDS_A_BYTE = 1e-9
"""Loading, saving and loading the saved model again, for each byte of weights."""
