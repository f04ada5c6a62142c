"""The kernel gives the bits of the plain form, and the plain form the steps of torch's AdamW."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from afina.kernels import native
from afina.kernels.adamw import (
    BLOCK,
    Constants,
    Moved,
    measure_norm,
    measure_norm_plain,
    take_step,
    take_step_plain,
)

# Numbers, blocks and pieces of blocks that don't come out even, and tensors of nothing between others.
SHAPES = [(0,), (1,), (7, 0), (3, 5), (16,), (2049,), (BLOCK,), (BLOCK + 1,), (129, 300), (0,)]
RATES = [(0.1, 0.0), (0.003, 0.3), (1e-5, 0.01)]
CONSTANTS = Constants(0.7, 0.9, 0.999, 1e-8)

needs_kernel = pytest.mark.skipif(native.load_library() is None, reason="the kernel wasn't compiled")


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> int:
    torch.set_num_threads(request.param)
    return int(request.param)


def make_moved(step: int = 5) -> list[Moved]:
    """Tensors of many sizes, by turns with a bf16 gradient and a copy, with either, and with neither."""
    random = torch.Generator().manual_seed(step)

    def draw(shape: tuple[int, ...], scale: float) -> Tensor:
        return torch.randn(shape, generator=random) * scale

    moved = []
    for place, shape in enumerate(SHAPES * 2):
        gradient, weight = draw(shape, 10.0 ** (place % 7 - 5)), draw(shape, 0.05)
        gradient = gradient.bfloat16() if place % 2 else gradient
        copy = torch.zeros(shape, dtype=torch.bfloat16) if place % 4 < 2 else None
        mean, square = draw(shape, 1e-3), draw(shape, 1e-3).square()
        moved.append(Moved(weight, mean, square, gradient, copy, *RATES[place % len(RATES)], step + place % 2))
    return moved


def list_results(moved: list[Moved]) -> list[Tensor]:
    return [each for tensors in moved for each in (*tensors[:3], tensors.copy) if each is not None]


@needs_kernel
@pytest.mark.parametrize("step", [1, 5, 1000])
def test_the_kernel_gives_the_bits_of_the_plain_form(step: int, threads: int) -> None:
    found, wanted, start = make_moved(step), make_moved(step), make_moved(step)
    take_step(found, CONSTANTS)
    take_step_plain(wanted, CONSTANTS)
    for one, other in zip(list_results(found), list_results(wanted), strict=True):
        assert torch.equal(one, other)
    for one, before in zip(found, start, strict=True):
        assert not one.weight.numel() or not torch.equal(one.weight, before.weight)
        assert torch.equal(one.gradient, before.gradient)


@pytest.mark.parametrize("take", [take_step, take_step_plain])
def test_a_copy_is_the_rounded_weight(take: Any) -> None:
    moved = make_moved()
    take(moved, CONSTANTS)
    for each in moved:
        assert each.copy is None or torch.equal(each.copy, each.weight.bfloat16())


@pytest.mark.parametrize("take", [take_step, take_step_plain])
def test_steps_are_those_of_torch(take: Any) -> None:
    """Clipped beforehand, by a schedule, in groups with and without decay."""
    random = torch.Generator().manual_seed(0)
    starts = [torch.randn(shape, generator=random) for shape in SHAPES]
    parameters = [torch.nn.Parameter(start.clone()) for start in starts]
    groups = [{"params": parameters[::2], "weight_decay": 0.3}, {"params": parameters[1::2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    states = [(start.clone(), torch.zeros_like(start), torch.zeros_like(start)) for start in starts]
    for step in range(1, 21):
        rate = 0.01 / step
        gradients = [torch.randn(shape, generator=random) for shape in SHAPES]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient * 0.25
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        take(
            [
                Moved(*state, gradient, None, rate, 0.0 if place % 2 else 0.3, step)
                for place, (state, gradient) in enumerate(zip(states, gradients, strict=True))
            ],
            CONSTANTS._replace(factor=0.25),
        )
    for parameter, state, start in zip(parameters, states, starts, strict=True):
        torch.testing.assert_close(state[0], parameter.detach(), rtol=1e-5, atol=1e-7)
        assert not start.numel() or not torch.equal(state[0], start)


@needs_kernel
def test_the_norm_is_that_of_torch_and_the_same_for_any_number_of_threads() -> None:
    gradients = [each.gradient for each in make_moved()]
    wanted = torch.cat([each.double().flatten() for each in gradients]).norm().item()
    found = set()
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        found.add(measure_norm(gradients))
    assert len(found) == 1
    assert found.pop() == pytest.approx(wanted, rel=1e-12)
    assert measure_norm_plain(gradients) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("measure", [measure_norm, measure_norm_plain])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_shows_what_is_no_number(measure: Any, dtype: torch.dtype) -> None:
    for value in (float("nan"), float("inf")):
        gradient = torch.zeros(BLOCK + 3, dtype=dtype)
        gradient[BLOCK + 1] = value
        assert not np.isfinite(measure([torch.ones(5), gradient]))
    assert measure([]) == 0.0
    assert measure([torch.full((4,), 1e30)]) == pytest.approx(2e30)  # whose square fp32 couldn't hold


@needs_kernel
def test_rounding_is_to_the_nearest_and_of_two_as_near_to_the_even_one() -> None:
    """Every upper half of a number, with lower halves around the middle; a step of 0 leaves the weight as it is."""
    upper = np.arange(2**16, dtype=np.uint32) << 16
    lower = np.asarray([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    bits = (upper[:, None] | lower).ravel()
    weight = torch.from_numpy(bits.view(np.float32).copy())
    zeros = torch.zeros_like(weight)
    copy = torch.ones(len(weight), dtype=torch.bfloat16)
    take_step([Moved(weight, zeros.clone(), zeros.clone(), zeros, copy, 0.0, 0.0, 1)], CONSTANTS)
    found = copy.view(torch.int16).numpy().view(np.uint16)
    is_nan = np.isnan(bits.view(np.float32))
    nearest = (bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16
    np.testing.assert_array_equal(found[~is_nan], nearest[~is_nan].astype(np.uint16))
    assert torch.isnan(copy[torch.from_numpy(is_nan)]).all()
    infinite = np.isinf(bits.view(np.float32))
    assert infinite.sum() == 2
    np.testing.assert_array_equal(found[infinite], [0x7F80, 0xFF80])


@needs_kernel
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("weight", torch.zeros(6)),
        ("mean", torch.zeros(4, 3).T),
        ("square", torch.zeros(3, 4, dtype=torch.float64)),
        ("gradient", torch.zeros(3, 4, dtype=torch.float16)),
        ("gradient", torch.zeros(3, 5)),
        ("copy", torch.zeros(3, 4)),
        ("copy", torch.zeros(3, 4, dtype=torch.bfloat16, device="meta")),
    ],
)
def test_the_kernel_is_given_no_memory_that_it_would_misread(name: str, wrong: Tensor) -> None:
    plain = [torch.ones(3, 4) for _ in range(4)]
    moved = Moved(*plain, torch.zeros(3, 4, dtype=torch.bfloat16), 0.1, 0.1, 1)
    with pytest.raises(ValueError, match="contiguous and on a CPU"):
        take_step([moved, moved._replace(**{name: wrong})], CONSTANTS)
    assert torch.equal(plain[0], torch.ones(3, 4))


@needs_kernel
def test_threads_are_those_of_torch() -> None:
    """A second OpenMP in the process would have threads of its own, beside those that torch keeps awake."""
    made = native.LIBRARY.read_bytes()
    assert b"GOMP_parallel" in made
    assert b"libgomp" not in made


@needs_kernel
def test_a_library_of_another_source_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "FOLDER", Path(shutil.copytree(native.FOLDER, tmp_path / "kernels")))
    find = native.find_library.__wrapped__
    assert find() is not None
    header = tmp_path / "kernels" / "compiled.h"
    header.write_text(header.read_text() + "\n")
    assert find() is None


def test_a_library_that_is_not_there_or_no_library_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "x.so")
    assert native.find_library.__wrapped__() is None
    (tmp_path / "x.so").write_bytes(b"of another machine")
    assert native.find_library.__wrapped__() is None
