"""Weights are compared by their bits."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from afina.runs.folder import RunFolder
from afina.runs.weights import TensorDifference, compare_weights

FILE = "model.safetensors"


def save(path: Path, **tensors: torch.Tensor) -> RunFolder:
    (path / "model").mkdir(parents=True)
    save_file(tensors, path / "model" / FILE)
    return RunFolder(path)


def test_equal_bits_are_equal_and_other_bits_are_not(tmp_path: Path) -> None:
    plain = torch.tensor([1.0, float("nan"), 0.0])
    first = save(tmp_path / "a", x=plain, y=torch.ones(2, 2).bfloat16())
    assert compare_weights(first, save(tmp_path / "b", x=plain.clone(), y=torch.ones(2, 2).bfloat16())) == (2, [])
    # A zero with a sign is another number to the bit, if not to arithmetic.
    signed = save(tmp_path / "c", x=torch.tensor([1.0, 2.0, -0.0]), y=torch.full((2, 2), 1.0078125).bfloat16())
    count, differences = compare_weights(
        save(tmp_path / "d", x=torch.tensor([1.0, 2.5, 0.0]), y=torch.ones(2, 2).bfloat16()), signed
    )
    assert count == 2
    assert differences == [
        TensorDifference(FILE, "x", 3, 2, 0.5), TensorDifference(FILE, "y", 4, 4, 0.0078125)
    ]  # fmt: skip


def test_a_head_in_a_folder_of_its_own_is_compared(tmp_path: Path) -> None:
    """As sentence-transformers keeps it."""
    runs = [save(tmp_path / name, x=torch.ones(3)) for name in "ab"]
    for run, value in zip(runs, (1.0, 2.0), strict=True):
        (run.model / "2_Dense").mkdir()
        save_file({"linear.bias": torch.full((2,), value)}, run.model / "2_Dense" / FILE)
    assert compare_weights(*runs) == (2, [TensorDifference(f"2_Dense/{FILE}", "linear.bias", 2, 2, 1.0)])
    assert compare_weights(runs[0], runs[0]) == (2, [])


def test_what_is_missing_or_has_another_form_differs_wholly(tmp_path: Path) -> None:
    first = save(tmp_path / "a", x=torch.ones(3), y=torch.ones(2), z=torch.ones(4))
    second = save(tmp_path / "b", x=torch.ones(2), y=torch.ones(2).half())
    assert compare_weights(first, second) == (
        3, [TensorDifference(FILE, name, size, size, None) for name, size in (("x", 3), ("y", 2), ("z", 4))]
    )  # fmt: skip
