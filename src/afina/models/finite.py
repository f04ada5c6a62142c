"""Weights that hold NaN or infinities, named where what a model computes is no finite number. Letters: N rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from afina.data.batches import Indices
from afina.errors import ModelError, describe_rows
from afina.models.completeness import shorten

COPY_MODEL = "copy the model again from where it was published, its config.json too (a layer_norm_eps, say, may be NaN)"


def find_odd_weights(model: Any) -> list[str]:
    """Names of the parameters that hold NaN or infinities, as the files of the model have them."""
    odd = [name for name, parameter in model.named_parameters() if not bool(parameter.isfinite().all())]
    return [name.removeprefix("base_model.model.").replace(".base_layer.", ".") for name in odd]  # what peft adds


def check_losses(losses_N: npt.NDArray[np.float64], row_numbers_N: Indices, part: str, model: Any) -> None:
    """Refuse an untouched language model whose weights are why losses are no finite numbers. Rows may be, too: their
    steps are skipped.

    Raises:
        ModelError: naming the rows and the weights.
    """
    is_finite_N = np.isfinite(losses_N)
    odd = [] if is_finite_N.all() else find_odd_weights(model)
    if odd:
        rows = np.unique(row_numbers_N[~is_finite_N]).tolist()
        raise ModelError(
            "the model gives losses that are not finite numbers",
            found=f"{describe_rows(rows)} (part {part}); NaN or infinities are in {shorten(odd)}",
            expected="finite numbers for every row",
            remedy=COPY_MODEL,
        )
