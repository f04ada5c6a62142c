"""bitsandbytes, imported without a look at the network.

On CPUs with AVX512-BF16 its import asks the package `kernels`, where that is installed, for a compiled program from the
Hub, and otherwise warns that it couldn't. peft imports bitsandbytes in turn, so this comes before either.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from typing import Any

FETCHER = "kernels"
WARNER = "bitsandbytes.backends.cpu.ops"


def has_bitsandbytes() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("bitsandbytes") is not None


def import_bitsandbytes() -> Any:
    """The package, or None where it isn't installed."""
    if not has_bitsandbytes():
        return None
    known = sys.modules.pop(FETCHER, None)
    sys.modules[FETCHER] = None  # type: ignore[assignment]  # makes `import kernels` fail
    logger = logging.getLogger(WARNER)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import bitsandbytes
    finally:
        logger.setLevel(level)
        del sys.modules[FETCHER]
        if known is not None:
            sys.modules[FETCHER] = known
    return bitsandbytes


def holds_four_bits(model: Any) -> bool:
    """Whether weights of the model are stored in 4 bits."""
    return any(type(parameter).__name__ == "Params4bit" for parameter in model.parameters())
