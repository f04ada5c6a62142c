"""One seed a step: what is random in a step is a function of the run's seed and the step's number.

So a resumed run draws the same dropout as an uninterrupted one, and no generator's state needs saving.
"""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *parts: int | str) -> int:
    """A number below 2**63 for `seed` and a place in the run, such as ("step", 120)."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_torch(seed: int, *parts: int | str) -> None:
    """Seed torch's generators (CPU and all GPUs) for one place in the run."""
    import torch

    torch.manual_seed(derive_seed(seed, *parts))
