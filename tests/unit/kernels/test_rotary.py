"""Rotary positions by a kernel: torch's operations to the bit, forwards and backwards."""

from __future__ import annotations

import pytest
import torch

from afina.kernels import native
from afina.kernels.rotary import compute, suits_turn, turn, turn_plain

needs_kernels = pytest.mark.skipif(native.load_layer_kernels() is None, reason="the kernels weren't compiled")


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@needs_kernels
@pytest.mark.parametrize("rounds", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("width", [2, 16, 64, 96, 130])
def test_what_is_compiled_is_the_plain_form(width: int, dtype: torch.dtype, rounds: bool) -> None:
    for rows, heads, places, angle_rows in ((2, 3, 5, 1), (2, 1, 33, 2), (0, 2, 3, 1)):
        input = draw(rows, places, heads, width, dtype=dtype).transpose(1, 2)
        angles = [draw(angle_rows, places, width, dtype=dtype, seed=seed) for seed in (1, 2)]
        for is_backward in (False, True):
            wanted = turn_plain(input, angles[0], angles[1], rounds, is_backward=is_backward)
            for threads in (1, 3):
                torch.set_num_threads(threads)
                found = compute(input, angles[0], angles[1], rounds, is_backward=is_backward)
                assert torch.equal(found, wanted)
                assert found.transpose(1, 2).is_contiguous()


def test_the_gradient_is_that_of_the_plain_form() -> None:
    input = draw(2, 3, 4, 6).requires_grad_()
    cosines, sines = draw(2, 4, 6, seed=1), draw(2, 4, 6, seed=2)
    assert torch.autograd.gradcheck(lambda each: turn(each, cosines, sines, False), input)
    found = torch.autograd.grad((turn(input, cosines, sines, True) ** 2).sum(), input)
    plain = torch.autograd.grad((turn_plain(input, cosines, sines, True, is_backward=False) ** 2).sum(), input)
    torch.testing.assert_close(found, plain)


@needs_kernels
def test_a_gradient_with_any_strides() -> None:
    """What autograd hands over may be turned about, repeated, or every other number of something."""
    angles = [draw(1, 6, 8, dtype=torch.bfloat16, seed=seed) for seed in (1, 2)]
    wide = draw(2, 3, 6, 16, dtype=torch.bfloat16)
    for input in (
        wide.transpose(1, 3)[:, :8, :, :3].transpose(1, 3),
        wide[:, :1, :, :8].expand(2, 3, 6, 8),
        wide[..., ::2],
    ):
        found = compute(input, angles[0], angles[1], True, is_backward=True)
        assert torch.equal(found, turn_plain(input, angles[0], angles[1], True, is_backward=True))


def test_what_does_not_belong_together() -> None:
    input, angles = draw(2, 3, 4, 6), draw(1, 4, 6)
    assert suits_turn(input, angles, angles)
    for wrong in (draw(1, 5, 6), draw(3, 4, 6), draw(1, 4, 4), draw(4, 6), angles.float()):
        assert not suits_turn(input, wrong, wrong)
        with pytest.raises(ValueError, match="an angle for each place"):
            turn(input, wrong, wrong, True)
    assert not suits_turn(draw(2, 3, 4, 5), draw(1, 4, 5), draw(1, 4, 5))
    assert not suits_turn(input, angles.clone().requires_grad_(), angles)
