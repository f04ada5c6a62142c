"""Whether a tokenizer is that of its model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from afina.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from transformers import PretrainedConfig


def count_vectors(config: PretrainedConfig) -> int:
    """How many tokens a model has a vector for."""
    return int(config.get_text_config().vocab_size)


def check_vocabulary(ids: npt.ArrayLike, vectors: int, folder: Path | str) -> None:
    """Refuse tokens that the model has no vector for: its tokenizer is another model's.

    Some tokenizers list a few tokens more than the model has and never give them, so the tokens of rows count.

    Args:
        ids: of one row or many.
        vectors: tokens that the model has a vector for.
        folder: of the model, for the error.
    """
    found: npt.NDArray[Any] = np.asarray(ids)
    largest = int(found.max(initial=0))
    if largest >= vectors:
        raise ModelError(
            f"the tokenizer in {folder} is not that of its model",
            found=f"token {largest:,} in the rows",
            expected=f"tokens below {vectors:,}, the rows of the model's table",
            remedy="copy the tokenizer's files from where the model was published",
        )
