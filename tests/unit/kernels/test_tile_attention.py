"""Attention by tiles is as near to the exact one as its roundings let it be, forward and backward, and the
same for any number of threads."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from afina.kernels import attention, native, short_attention, tile_attention
from afina.kernels.short_attention import add_heads, compute_weights_plain
from afina.kernels.tile_attention import LONGEST, attend_packed, attend_tiles, suits_tiles
from afina.testing.attention import MASKS, SCALING, draw_heads, make_mask, run_attention

# Rows, heads of queries and of keys, queries, keys, width: places around blocks of 32, groups of four such blocks.
SHAPES = [
    (2, 2, 2, 1, 1, 16), (1, 2, 1, 2, 2, 32), (2, 2, 2, 31, 31, 48), (1, 3, 1, 32, 32, 64), (1, 2, 2, 33, 33, 96),
    (2, 4, 2, 64, 64, 128), (1, 6, 2, 100, 100, 31), (1, 3, 1, 321, 321, 64), (1, 1, 1, 512, 512, 32),
    (1, 2, 1, 17, 70, 64), (2, 2, 2, 40, 9, 33), (1, 1, 1, 140, 1200, 8), (0, 2, 2, 3, 4, 8), (2, 2, 2, 0, 4, 8),
    (2, 2, 2, 3, 0, 8), (2, 0, 0, 3, 4, 8),
]  # fmt: skip
# Half of a step between numbers of bf16, by which a rounding is off at most, and what sums in fp32 are off by.
ROUNDING, SUMS = 2.0**-8, 2e-5

run = partial(run_attention, attend_tiles)
is_there = native.load_tile_kernels() is not None
needs_tiles = pytest.mark.skipif(
    not is_there, reason="the kernels weren't compiled, or the processor has neither AMX nor AVX512-BF16"
)
UNITS = range(native.AVX512_UNIT, native.find_tile_unit() + 1) if is_there else [native.NO_UNIT]


@pytest.fixture(autouse=True, params=UNITS)
def unit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Each unit of this processor: the fastest one has those below it, too."""
    found = int(request.param)
    for module in (native, tile_attention):
        monkeypatch.setattr(module, "find_tile_unit", lambda: found)
    return found


def find_bounds(inputs: list[Tensor], mask: Tensor | None, is_causal: bool, scaling: float) -> list[Tensor]:
    """What output and gradients may be off by before they are rounded themselves, in fp64.

    Probabilities P are rounded once before they are multiplied. The scores' gradient dS = P (dP - dot) is made from
    rounded P and rounded itself. Where dP - dot is nearly 0, the sums that are subtracted are off by more.
    """
    query, key, value, direction = (each.double() for each in inputs)
    heads, key_heads = query.shape[1], key.shape[1]
    key_BHSD, value_BHSD = (each.repeat_interleave(heads // max(1, key_heads), 1) for each in (key, value))
    weights = compute_weights_plain(query, key, mask, scaling, is_causal)
    change = direction @ value_BHSD.transpose(-1, -2)
    spread = direction.abs() @ value_BHSD.abs().transpose(-1, -2)
    scores_gradient = weights * (change - (weights * change).sum(-1, keepdim=True))
    sums = weights * (spread + (weights * spread).sum(-1, keepdim=True))
    # What the logarithm and the scores are off by is relative to the scores.
    weights_off = (ROUNDING + SUMS * (1 + scaling)) * weights
    scores_off = scaling * (2 * ROUNDING * scores_gradient.abs() + SUMS * (1 + scaling) * sums)
    return [
        weights_off @ value_BHSD.abs(), scores_off @ key_BHSD.abs(),
        add_heads(scores_off.transpose(-1, -2) @ query.abs(), key_heads),
        add_heads(weights_off.transpose(-1, -2) @ direction.abs(), key_heads),
    ]  # fmt: skip


def assert_rounded(inputs: list[Tensor], mask: Tensor | None, is_causal: bool, scaling: float = SCALING) -> None:
    """Beside the plain form in fp64, whose formulas `test_short_attention.py` proves."""
    found = run(inputs, mask, is_causal, scaling=scaling)
    exact = run([each.double() for each in inputs], mask, is_causal, scaling=scaling)
    bounds = find_bounds(inputs, mask, is_causal, scaling)
    for one, other, bound in zip(found, exact, bounds, strict=True):
        assert (one.dtype, one.shape) == (torch.bfloat16, other.shape)
        assert one.transpose(1, 2).is_contiguous()
        excess = (one.double() - other).abs() - bound - ROUNDING * (other.abs() + bound)
        assert not (excess > 1e-7).any(), float(excess.max())
        assert torch.isfinite(one).all()


@needs_tiles
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_are_exact_up_to_roundings(shape: tuple[int, ...], kind: str) -> None:
    if kind == "causal" and shape[3] > shape[4]:
        pytest.skip("a query without a key")
    assert_rounded(draw_heads(shape), make_mask(kind, shape), kind == "causal")


@needs_tiles
@pytest.mark.parametrize("scaling", [-0.3, 0.0, 5.0])
def test_any_scaling(scaling: float) -> None:
    """Scores of 5 times 8 times a few leave one or two keys of each row."""
    shape = (1, 2, 2, 70, 70, 64)
    for kind in ("causal", "some"):
        if scaling < 0:  # the same of turned queries
            query, key, value, _ = draw_heads(shape)
            found = attend_tiles(query, key, value, make_mask(kind, shape), scaling, kind == "causal")
            wanted = attend_tiles(-query, key, value, make_mask(kind, shape), -scaling, kind == "causal")
            assert torch.equal(found, wanted)
        else:
            assert_rounded(draw_heads(shape), make_mask(kind, shape), kind == "causal", scaling)


@needs_tiles
def test_other_layouts() -> None:
    """Of masks, of heads that lie one after another, and of gradients: that of a sum is one number in memory."""
    shape = (2, 4, 2, 39, 41, 16)
    *inputs, direction = draw_heads(shape)
    by_head = torch.rand(2, 4, 39, 41, generator=torch.Generator().manual_seed(1)) < 0.5
    turned = torch.rand(2, 4, 41, 39, generator=torch.Generator().manual_seed(0)).transpose(2, 3) < 0.5
    for each in (by_head[:, :1].expand(2, 4, 39, 41), by_head[:1, :, :1].expand(2, 4, 39, 41), turned):
        found, wanted = (run([*inputs, direction], one, False) for one in (each, each.contiguous()))
        assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    wanted = run([*inputs, direction], by_head, False)
    assert_rounded([*inputs, direction], by_head, False)
    found = run([each.contiguous() for each in (*inputs, direction)], by_head, False)
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    ones = torch.ones(()).bfloat16().expand(2, 4, 39, 16)
    found, wanted = (run([*inputs, one], None, False) for one in (ones, ones.contiguous()))
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))


@needs_tiles
def test_masks_of_every_length() -> None:
    for keys in range(1, 67):
        shape = (1, 2, 1, 3, keys, 8)
        mask = torch.rand((1, 2, 3, keys), generator=torch.Generator().manual_seed(keys)) < 0.3
        assert_rounded(draw_heads(shape), mask, False)


@needs_tiles
def test_as_many_keys_as_it_has_room_for() -> None:
    assert_rounded(draw_heads((1, 1, 1, 33, LONGEST, 16)), None, False)


@needs_tiles
def test_a_query_that_may_look_nowhere_looks_everywhere_alike() -> None:
    shape = (1, 2, 2, 3, 41, 32)
    inputs, mask = draw_heads(shape), torch.ones(1, 2, 3, 41, dtype=torch.bool)
    mask[:, :, 1] = False
    out = attend_tiles(*inputs[:3], mask, SCALING, False)
    torch.testing.assert_close(out[:, :, 1].double(), inputs[2].double().mean(2), rtol=2**-7, atol=2**-8)
    # So does one whose scores are no numbers, as with the least finite number for a mask.
    inputs[0][0, 0, 1] = float("nan")
    for none in (torch.zeros_like(mask), torch.zeros(1, 1, 1, 41, dtype=torch.bool).expand(mask.shape)):
        nowhere = attend_tiles(*inputs[:3], none, SCALING, False)
        assert torch.equal(nowhere[0, 0, 0], nowhere[0, 0, 1])


@needs_tiles
@pytest.mark.parametrize("is_shared", [True, False])
def test_blocks_of_queries_that_may_look_nowhere(is_shared: bool) -> None:
    """Whole ones, and single ones beside queries that see whole blocks of keys."""
    shape = (3, 4, 1, 98, 98, 40)
    seen = torch.tensor([0, 98, 64])[:, None, None, None]
    mask = (torch.arange(98) < seen).expand(3, 4, 98, 98)
    if not is_shared:
        mask = mask.clone()
        mask[1, :, 5] = mask[2, :, 70:] = False
    assert_rounded(draw_heads(shape), mask, False)


@needs_tiles
def test_what_is_no_number_is_seen() -> None:
    for value in (float("nan"), float("inf")):
        query, key, values, direction = draw_heads((1, 1, 1, 40, 50, 32))
        query[0, 0, 4, 7] = value
        found = run([query, key, values, direction], None, False)
        others = [place for place in range(40) if place != 4]
        for each in found[:2]:
            assert torch.isfinite(each[0, 0, others]).all()
            assert not torch.isfinite(each[0, 0, 4]).any()
        assert not torch.isfinite(found[2]).any()
        assert not torch.isfinite(found[3]).any()


@needs_tiles
def test_nothing_is_read_of_blocks_that_are_not_seen() -> None:
    query, key, values, direction = draw_heads((1, 1, 1, 100, 100, 32))
    key[0, 0, 40], values[0, 0, 70] = float("nan"), float("nan")
    found = run([query, key, values, direction], None, True)
    for each in found[:2]:
        assert torch.isfinite(each[0, 0, :32]).all()
        assert not torch.isfinite(each[0, 0, 40:]).any()
    mask = (torch.arange(100) < 32).expand(1, 1, 100, 100)
    found = run([query, key, values, direction], mask, False)
    assert all(torch.isfinite(each).all() for each in found)
    assert (found[2][0, 0, 32:] == 0).all()
    # In a block that is seen in part, what isn't seen is multiplied by 0, but for the scores' gradient.
    query, key, values, direction = draw_heads((1, 1, 1, 10, 30, 32))
    values[0, 0, 25] = float("nan")
    mask = (torch.arange(30) < 20).expand(1, 1, 10, 30)
    assert all(torch.isfinite(each).all() for each in run([query, key, values, direction], mask, False)[1:])


@needs_tiles
def test_nothing_is_written_beside_the_tensors() -> None:
    """The last row of a head ends where memory does that holds something else."""
    for width in (3, 31, 33):
        shape = (2, 2, 2, 35, 35, width)
        *inputs, direction = draw_heads(shape)
        wanted = run([*inputs, direction], None, False)
        rooms = [torch.full((2, 35, 2, width + 5), 7.0).bfloat16() for _ in range(4)]
        places = [each[..., :width].transpose(1, 2) for each in rooms]
        logs = torch.full((2 * 2 * 35 + 16,), 7.0)
        tables = (*inputs[:3],), None, SCALING, False
        assert tile_attention.compute_tiles(*tables, places[0], logs[: 2 * 2 * 35].view(2, 2, 35))
        tile_attention.differentiate_tiles(direction, *tables, logs[: 2 * 2 * 35].view(2, 2, 35), (*places[1:],))
        for room, place, other in zip(rooms, places, wanted, strict=True):
            assert torch.equal(place, other)
            assert (room[..., width:] == 7).all()
        assert (logs[2 * 2 * 35 :] == 7).all()


def test_it_keeps_its_inputs_and_a_number_for_each_query() -> None:
    shape = (2, 4, 2, 6, 7, 8)
    mask = torch.ones(2, 1, 1, 7, dtype=torch.bool).expand(2, 4, 6, 7)
    starts = [each.requires_grad_() for each in draw_heads(shape)[:3]]
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        attend_tiles(*starts, mask, SCALING, False)
    assert [each.data_ptr() for each in kept[:4]] == [each.data_ptr() for each in (*starts, mask)]
    assert [(each.shape, each.dtype) for each in kept[4:]] == [(torch.Size((2, 4, 6)), torch.float32)]


@needs_tiles
def test_a_switch_between_the_passes_changes_nothing_but_roundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain forward pass leaves no logarithms, and a plain backward pass needs none."""
    *inputs, direction = draw_heads((1, 2, 2, 20, 20, 16))
    wanted = run([*inputs, direction], None, False)[1:]
    for is_on in (True, False):
        starts = [each.detach().requires_grad_() for each in inputs]
        monkeypatch.setattr(native.Allowed, "is_on", is_on)
        out = attend_tiles(*starts, None, SCALING, False)
        monkeypatch.setattr(native.Allowed, "is_on", not is_on)
        for found, other in zip(torch.autograd.grad(out, starts, direction), wanted, strict=True):
            torch.testing.assert_close(found, other, rtol=2**-6, atol=0.02)


@needs_tiles
def test_a_gradient_of_another_shape_is_refused() -> None:
    query, key, value, direction = draw_heads((2, 4, 2, 5, 6, 8))
    places, logs = (query.clone(), key.clone(), value.clone()), torch.zeros(2, 4, 5)
    with pytest.raises(ValueError, match="shapes are"):
        tile_attention.differentiate_tiles(direction[:, :3], (query, key, value), None, SCALING, False, logs, places)


def test_no_memory_is_an_error() -> None:
    with pytest.raises(MemoryError, match="too little memory"):
        tile_attention.run(lambda *rest: 1, short_attention.AttentionTable(), torch.zeros(1, 1, 1, 1))


def test_processors_without_tiles_have_no_such_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value, _ = draw_heads((1, 2, 2, 4, 5, 8))
    monkeypatch.setattr(native, "find_tile_unit", lambda: native.NO_UNIT)
    assert not suits_tiles(query, key, value, None, False)


@needs_tiles
@pytest.mark.parametrize("is_trained", [True, False])
def test_attention_gives_it_all_but_the_shortest_rows(is_trained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.Size] = []

    def count(compute: Any) -> Any:
        def run_counted(tensor: Tensor, *rest: Any) -> Tensor:
            calls.append(tensor.shape)
            return compute(tensor, *rest)

        return run_counted

    monkeypatch.setattr(attention, "attend_tiles", count(attend_tiles))
    monkeypatch.setattr(tile_attention, "attend_packed", count(attend_packed))
    for keys, is_causal, is_tiled in ((16, False, False), (17, False, True), (16, True, False), (300, True, True)):
        query, key, value, _ = draw_heads((1, 2, 2, keys, keys, 64))
        with torch.set_grad_enabled(is_trained):
            out = attention.attend(query, key, value, None, SCALING, is_causal)
            assert bool(calls) is is_tiled
            calls.clear()
            if not is_causal:
                packed = torch.stack([each.transpose(1, 2) for each in (query, key, value)], 2)
                assert torch.equal(attention.attend_packed(packed, None, SCALING), out.transpose(1, 2).flatten(2))
                assert bool(calls) is is_tiled
        calls.clear()
