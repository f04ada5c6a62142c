"""Dropout by keys: what is compiled is the plain form to the bit, and the numbers look random."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from afina.kernels import native
from afina.kernels.dropout import (
    HALF,
    add_dropped_,
    count_least,
    draw_key,
    drop,
    drop_plain,
    key_dropout,
    own_keys,
    scale_kept,
)

SHAPES = [(0,), (1,), (31,), (33, 2), (3, 5, 64), (300_001,)]
KEY = 2**61 + 12345

needs_kernels = pytest.mark.skipif(native.load_layer_kernels() is None, reason="the kernels weren't compiled")


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_compiled_is_the_plain_form_for_any_number_of_threads(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    input = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    wanted = drop_plain(input, 0.3, KEY)
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found = drop(input, 0.3, KEY)
        assert found.dtype == dtype
        assert torch.equal(found, wanted)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_dropped_is_added_with_one_rounding(dtype: torch.dtype) -> None:
    sum, input = (torch.randn(7, 33, generator=torch.Generator().manual_seed(seed)).to(dtype) for seed in (0, 1))
    wanted = (sum.double() + drop(input.double(), 0.3, KEY)).to(dtype)
    assert add_dropped_(sum, input, 0.3, KEY) is sum
    torch.testing.assert_close(sum, wanted, rtol=2e-7 if dtype == torch.float32 else 0, atol=1e-7)
    with pytest.raises(ValueError, match="a contiguous tensor of shape"):
        add_dropped_(sum.T, input, 0.3, KEY)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_about_the_share_is_dropped_and_the_rest_scaled(share: float) -> None:
    dropped = drop(torch.ones(400_000), share, KEY)
    is_kept = dropped != 0
    assert abs(1 - float(is_kept.float().mean()) - share) < 5 * (share * (1 - share) / 400_000) ** 0.5
    torch.testing.assert_close(dropped[is_kept], torch.full_like(dropped[is_kept], 1 / (1 - share)), rtol=1e-4, atol=0)
    assert scale_kept(count_least(share)) * (1 - count_least(share) / HALF) == 1, "the mean stays"


def test_places_and_keys_are_independent() -> None:
    """Of two that are dropped with a chance of a tenth each, a hundredth."""
    one, other = (drop(torch.ones(1_000_000), 0.1, key) == 0 for key in (KEY, KEY + 1))
    pairs = [(one, other), *((one[step:], one[:-step]) for step in (1, 2, 16, 32, 384, 8192))]
    for first, second in pairs:
        assert abs(float((first & second).float().mean()) - 0.01) < 5e-4


def test_keys_follow_torchs_generator() -> None:
    torch.manual_seed(3)
    first = [draw_key(), draw_key()]
    torch.manual_seed(3)
    assert [draw_key(), draw_key()] == first
    assert first[0] != first[1]
    assert all(0 <= key < 2**62 for key in first)


def test_turned_and_wide_tensors_are_dropped_in_their_order() -> None:
    turned = torch.arange(1.0, 13).view(3, 4).T
    assert torch.equal(drop(turned, 0.5, KEY), drop(turned.contiguous(), 0.5, KEY))
    wide = drop(torch.ones(1000, dtype=torch.float64), 0.5, KEY)
    assert torch.equal(wide.float(), drop(torch.ones(1000), 0.5, KEY))


@needs_kernels
def test_a_layer_drops_the_gradient_where_it_drops_the_number() -> None:
    layer = nn.Sequential(nn.Dropout(0.4))
    assert key_dropout(layer[0])
    input = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)).requires_grad_()
    output = layer(input)
    (gradient,) = torch.autograd.grad(output.sum(), input)
    torch.testing.assert_close(gradient * input, output)
    assert 0.2 < float((gradient == 0).float().mean()) < 0.6
    assert not torch.equal(layer(input), output)
    assert torch.equal(layer.eval()(input), input)


def test_a_layer_is_torchs_where_no_kernel_computes_it() -> None:
    layer = nn.Dropout(0.4)
    assert key_dropout(layer)
    assert not key_dropout(nn.Dropout(0.4, inplace=True))
    assert not key_dropout(nn.Identity())
    input = torch.randn(50, dtype=torch.float64)
    torch.manual_seed(1)
    found = layer(input)
    torch.manual_seed(1)
    assert torch.equal(found, nn.functional.dropout(input, 0.4))


@needs_kernels
def test_a_pass_that_is_computed_again_drops_the_same() -> None:
    layer = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5))
    key_dropout(layer[1])
    input = torch.randn(8, 6, requires_grad=True)
    gradients = []
    for computes_again in (False, True):
        torch.manual_seed(2)
        output = checkpoint(layer, input, use_reentrant=False) if computes_again else layer(input)
        gradients.append(torch.autograd.grad((output**2).sum(), input)[0])
    assert torch.equal(gradients[0], gradients[1])


def test_a_thread_with_its_own_keys_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(3)
    expected = [draw_key(), draw_key()]
    torch.manual_seed(3)
    with own_keys(7):
        own = [draw_key(), draw_key()]
    with own_keys(7):
        assert [draw_key(), draw_key()] == own
    with ThreadPoolExecutor(1) as pool, own_keys(8):
        assert pool.submit(draw_key).result() == expected[0], "of this thread alone"
    assert draw_key() == expected[1]
    assert not set(own) & set(expected)
