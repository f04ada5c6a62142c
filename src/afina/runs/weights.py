"""The weights of two runs, compared bit by bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afina.runs.folder import RunFolder


@dataclass(frozen=True)
class TensorDifference:
    """A tensor that is not the same in both."""

    file: str
    name: str
    values: int
    """How many values it has."""
    differing: int
    """How many of them are not the same bits; all, where the tensor is in one file only or has another shape."""
    largest: float | None
    """Largest absolute difference; None where values can't be compared."""


def compare_weights(first: RunFolder, second: RunFolder) -> tuple[int, list[TensorDifference]]:
    """How many tensors both models have together, and those that differ."""
    # Sentence-transformers keeps a head in a folder of its own.
    found_in = {run.model: run.model.rglob("*.safetensors") for run in (first, second)}
    names = sorted({path.relative_to(model).as_posix() for model, paths in found_in.items() for path in paths})
    count, differences = 0, list[TensorDifference]()
    for name in names:
        found = [read_tensors(run.model / name) for run in (first, second)]
        keys = sorted(found[0].keys() | found[1].keys())
        count += len(keys)
        each = (compare_tensors(name, key, found[0].get(key), found[1].get(key)) for key in keys)
        differences += [difference for difference in each if difference]
    return count, differences


def read_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a file, none if it isn't there."""
    from safetensors.torch import load_file

    return load_file(path) if path.exists() else {}


def compare_tensors(file: str, name: str, first: Any, second: Any) -> TensorDifference | None:
    """What differs between two tensors; None if they have the same bits."""
    import torch

    there = first if first is not None else second
    if first is None or second is None or first.shape != second.shape or first.dtype != second.dtype:
        return TensorDifference(file, name, there.numel(), there.numel(), None)
    size = there.element_size()
    bytes_first, bytes_second = (each.contiguous().view(torch.uint8).reshape(-1, size) for each in (first, second))
    differing = int((bytes_first != bytes_second).any(dim=1).sum())
    if not differing:
        return None
    largest = float((first.double() - second.double()).abs().max())
    return TensorDifference(file, name, there.numel(), differing, largest)
