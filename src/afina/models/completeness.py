"""Whether a folder's weights are those of the whole model that its config.json describes.

transformers fills what is missing, and what has another shape, with random numbers, and goes on. That is meant for a
new head; anywhere else the model would be another one than was published or trained, with a score to go with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from afina.errors import ModelError

SHOWN_TENSORS = 3


def check_whole(
    folder: Path, info: Mapping[str, Any], parameters: Collection[str], backbone: str, *, is_base: bool
) -> None:
    """Refuse weights of which more is missing, or of another shape, than may be new.

    Args:
        info: what `from_pretrained(..., output_loading_info=True)` gives beside the model.
        parameters: names of the model's parameters; buffers, such as position_ids, are computed and may be missing.
        backbone: path of the backbone in the model; "" where the model is the backbone itself.
        is_base: whether it is a base that gets a head: then the head may be missing or of another size.

    Raises:
        ModelError: with the first tensors that are missing or don't fit.
    """
    prefix = f"{backbone}." if backbone else ""
    missing = sorted(
        name for name in info["missing_keys"]
        if name in parameters and not (is_base and (is_head(name, prefix) or is_pooler(name, prefix)))
    )  # fmt: skip
    other = {
        name: f"{name} of shape {list(found)} instead of {list(expected)}"
        for name, found, expected in sorted(info["mismatched_keys"])
        if not (is_base and is_head(name, prefix))
    }
    if not missing and not other:
        return
    found = [f"without {shorten(missing)}"] if missing else []
    found += [f"{shorten(list(other.values()))}"] if other else []
    raise ModelError(
        f"the weights in {folder} are not those of a whole model",
        found="; ".join(found),
        expected="all tensors of what config.json describes" + (", of which only a head may be new" if is_base else ""),
        remedy="copy the folder again from where it came: config.json and the weights must be of one model",
    )


def is_head(name: str, prefix: str) -> bool:
    """Whether a parameter lies outside the backbone."""
    return not name.startswith(prefix)


def is_pooler(name: str, prefix: str) -> bool:
    """Whether a parameter is of the backbone's pooler, which checkpoints for other tasks leave out."""
    return name.removeprefix(prefix).startswith("pooler.")


def shorten(names: list[str]) -> str:
    """The first of the names, and how many there are."""
    more = f", ... ({len(names):,} in all)" if len(names) > SHOWN_TENSORS else ""
    return ", ".join(names[:SHOWN_TENSORS]) + more
