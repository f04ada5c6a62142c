"""Attention by the tiles of AMX is as near to the exact one as its roundings let it be, forward and backward, and the
same for any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from afina.kernels import attention, native, short_attention, tile_attention
from afina.kernels.short_attention import add_heads, compute_weights_plain
from afina.kernels.tile_attention import LONGEST, WIDEST, attend_packed, attend_tiles, suits_tiles

# Rows, heads of queries and of keys, queries, keys, width: places around blocks of 32, groups of four such blocks.
SHAPES = [
    (2, 2, 2, 1, 1, 16), (1, 2, 1, 2, 2, 32), (2, 2, 2, 31, 31, 48), (1, 3, 1, 32, 32, 64), (1, 2, 2, 33, 33, 96),
    (2, 4, 2, 64, 64, 128), (1, 6, 2, 100, 100, 31), (1, 3, 1, 321, 321, 64), (1, 1, 1, 512, 512, 32),
    (1, 2, 1, 17, 70, 64), (2, 2, 2, 40, 9, 33), (1, 1, 1, 140, 1200, 8), (0, 2, 2, 3, 4, 8), (2, 2, 2, 0, 4, 8),
    (2, 2, 2, 3, 0, 8), (2, 0, 0, 3, 4, 8),
]  # fmt: skip
MASKS = ["none", "causal", "padding", "blocks", "some", "none but some rows"]
SCALING = 0.3
# Half of a step between numbers of bf16, by which a rounding is off at most, and what sums in fp32 are off by.
ROUNDING, SUMS = 2.0**-8, 2e-5

is_there = native.load_tile_kernels() is not None
needs_tiles = pytest.mark.skipif(not is_there, reason="the kernels weren't compiled, or the processor is without AMX")


def draw(shape: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    """Queries, keys, values and the output's gradient as models give them: heads side by side."""
    rows, heads, key_heads, queries, keys, width = shape
    random = torch.Generator().manual_seed(seed)
    sizes = ((queries, heads), (keys, key_heads), (keys, key_heads), (queries, heads))
    drawn = [torch.randn(rows, *size, width, generator=random) for size in sizes]
    return [each.bfloat16().transpose(1, 2) for each in drawn]


def make_mask(kind: str, shape: tuple[int, ...]) -> Tensor | None:
    """Expanded, as models give it."""
    rows, heads, _, queries, keys, _ = shape
    if kind in ("none", "causal"):
        return None
    if kind == "padding":
        return (torch.arange(keys) <= keys // 2).expand(rows, heads, queries, keys)
    if kind == "blocks":
        size = max(1, keys // 5)
        block = (torch.arange(queries) // size)[:, None] == (torch.arange(keys) // size)[None]
        return block.expand(rows, heads, queries, keys)
    mask = torch.rand((rows, 1, queries, keys), generator=torch.Generator().manual_seed(2)) < 0.5
    mask[..., :1] = True
    if kind == "none but some rows":
        mask[:, :, ::2] = False
    return mask.expand(rows, heads, queries, keys)


def run(
    inputs: list[Tensor], mask: Tensor | None, is_causal: bool, apply: Any = attend_tiles, scaling: float = SCALING
) -> list[Tensor]:
    """Output and gradients."""
    *inputs, direction = inputs
    starts = [each.detach().requires_grad_() for each in inputs]
    out = apply(*starts, mask, scaling, is_causal)
    return [out.detach(), *torch.autograd.grad(out, starts, direction)]


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


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@needs_tiles
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_are_exact_up_to_roundings(shape: tuple[int, ...], kind: str) -> None:
    if kind == "causal" and shape[3] > shape[4]:
        pytest.skip("a query without a key")
    assert_rounded(draw(shape), make_mask(kind, shape), kind == "causal")


@needs_tiles
@pytest.mark.parametrize("scaling", [-0.3, 0.0, 5.0])
def test_any_scaling(scaling: float) -> None:
    """Scores of 5 times 8 times a few leave one or two keys of each row."""
    shape = (1, 2, 2, 70, 70, 64)
    for kind in ("causal", "some"):
        if scaling < 0:  # the same of turned queries
            query, key, value, _ = draw(shape)
            found = attend_tiles(query, key, value, make_mask(kind, shape), scaling, kind == "causal")
            wanted = attend_tiles(-query, key, value, make_mask(kind, shape), -scaling, kind == "causal")
            assert torch.equal(found, wanted)
        else:
            assert_rounded(draw(shape), make_mask(kind, shape), kind == "causal", scaling)


@needs_tiles
@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("kind", MASKS)
def test_bits_do_not_depend_on_the_number_of_threads(kind: str) -> None:
    shape = (3, 4, 2, 137, 145, 40)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(run(draw(shape), make_mask(kind, shape), kind == "causal"))
    for other in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], other, strict=True))


@needs_tiles
@pytest.mark.parametrize("kind", MASKS)
def test_one_tensor_of_queries_keys_and_values(kind: str) -> None:
    rows, heads, places, width = 2, 3, 45, 20
    shape = (rows, heads, heads, places, places, width)
    *inputs, direction = draw(shape)
    wanted = run([*inputs, direction], make_mask(kind, shape), kind == "causal")
    packed = torch.stack([each.transpose(1, 2) for each in inputs], 2).requires_grad_()
    out = attend_packed(packed, make_mask(kind, shape), SCALING, kind == "causal")
    assert torch.equal(out, wanted[0].transpose(1, 2).flatten(2))
    (gradient,) = torch.autograd.grad(out, packed, direction.transpose(1, 2).flatten(2))
    assert gradient.is_contiguous()
    for found, other in zip(gradient.unbind(2), wanted[1:], strict=True):
        assert torch.equal(found, other.transpose(1, 2))
    # Views of it are read where they lie.
    views = [each.transpose(1, 2) for each in packed.detach().unbind(2)]
    for one, other in zip(run([*views, direction], make_mask(kind, shape), kind == "causal"), wanted, strict=True):
        assert torch.equal(one, other)


@needs_tiles
def test_other_layouts() -> None:
    """Of masks, of heads that lie one after another, and of gradients: that of a sum is one number in memory."""
    shape = (2, 4, 2, 39, 41, 16)
    *inputs, direction = draw(shape)
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
        assert_rounded(draw(shape), mask, False)


@needs_tiles
def test_as_many_keys_as_it_has_room_for() -> None:
    assert_rounded(draw((1, 1, 1, 33, LONGEST, 16)), None, False)


@needs_tiles
def test_a_query_that_may_look_nowhere_looks_everywhere_alike() -> None:
    shape = (1, 2, 2, 3, 41, 32)
    inputs, mask = draw(shape), torch.ones(1, 2, 3, 41, dtype=torch.bool)
    mask[:, :, 1] = False
    out = attend_tiles(*inputs[:3], mask, SCALING, False)
    torch.testing.assert_close(out[:, :, 1].double(), inputs[2].double().mean(2), rtol=2**-7, atol=2**-8)
    # So does one whose scores are no numbers, as with the least finite number for a mask.
    inputs[0][0, 0, 1] = float("nan")
    for none in (torch.zeros_like(mask), torch.zeros(1, 1, 1, 41, dtype=torch.bool).expand(mask.shape)):
        nowhere = attend_tiles(*inputs[:3], none, SCALING, False)
        assert torch.equal(nowhere[0, 0, 0], nowhere[0, 0, 1])


@needs_tiles
def test_what_is_no_number_is_seen() -> None:
    for value in (float("nan"), float("inf")):
        query, key, values, direction = draw((1, 1, 1, 40, 50, 32))
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
    query, key, values, direction = draw((1, 1, 1, 100, 100, 32))
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
    query, key, values, direction = draw((1, 1, 1, 10, 30, 32))
    values[0, 0, 25] = float("nan")
    mask = (torch.arange(30) < 20).expand(1, 1, 10, 30)
    assert all(torch.isfinite(each).all() for each in run([query, key, values, direction], mask, False)[1:])


@needs_tiles
def test_nothing_is_written_beside_the_tensors() -> None:
    """The last row of a head ends where memory does that holds something else."""
    for width in (3, 31, 33):
        shape = (2, 2, 2, 35, 35, width)
        *inputs, direction = draw(shape)
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
    starts = [each.requires_grad_() for each in draw(shape)[:3]]
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        attend_tiles(*starts, mask, SCALING, False)
    assert [each.data_ptr() for each in kept[:4]] == [each.data_ptr() for each in (*starts, mask)]
    assert [(each.shape, each.dtype) for each in kept[4:]] == [(torch.Size((2, 4, 6)), torch.float32)]


def test_tensors_without_numbers_take_the_plain_form() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        starts = [torch.empty(2, 6, 4, 8, dtype=torch.bfloat16).transpose(1, 2).requires_grad_() for _ in range(3)]
        out = attend_tiles(*starts, None, SCALING, False)
        assert out.shape == starts[0].shape
        assert out.transpose(1, 2).is_contiguous()
        assert [each.shape for each in torch.autograd.grad(out.sum(), starts)] == [out.shape] * 3


@needs_tiles
def test_a_switch_between_the_passes_changes_nothing_but_roundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain forward pass leaves no logarithms, and a plain backward pass needs none."""
    *inputs, direction = draw((1, 2, 2, 20, 20, 16))
    wanted = run([*inputs, direction], None, False)[1:]
    for is_on in (True, False):
        starts = [each.detach().requires_grad_() for each in inputs]
        monkeypatch.setattr(native.Allowed, "is_on", is_on)
        out = attend_tiles(*starts, None, SCALING, False)
        monkeypatch.setattr(native.Allowed, "is_on", not is_on)
        for found, other in zip(torch.autograd.grad(out, starts, direction), wanted, strict=True):
            torch.testing.assert_close(found, other, rtol=2**-6, atol=0.02)


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    query, key, value, direction = draw((2, 4, 2, 5, 6, 8))
    for inputs in (
        (query, key, value[:, :, :5]), (query, key[:1], value[:1]), (query, key[..., :7], value[..., :7]),
        (query[:, :3], key, value), (query, key[:, :0], value[:, :0]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="heads of queries for each"):
            attend_tiles(*inputs, None, SCALING, False)
    mask = torch.ones(2, 4, 5, 6, dtype=torch.bool)
    with pytest.raises(ValueError, match="the mask's shape"):
        attend_tiles(query, key, value, mask[:, :1], SCALING, False)
    with pytest.raises(ValueError, match="takes no mask"):
        attend_tiles(query, key, value, mask, SCALING, True)
    if is_there:
        places, logs = (query.clone(), key.clone(), value.clone()), torch.zeros(2, 4, 5)
        with pytest.raises(ValueError, match="shapes are"):
            tile_attention.differentiate_tiles(
                direction[:, :3], (query, key, value), None, SCALING, False, logs, places
            )


def test_no_memory_is_an_error() -> None:
    with pytest.raises(MemoryError, match="too little memory"):
        tile_attention.run(lambda *rest: 1, short_attention.AttentionTable(), torch.zeros(1, 1, 1, 1))


def test_what_the_kernel_does_not_know_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value, _ = draw((1, 2, 2, 4, 5, 8))
    mask: Any = torch.ones(1, 2, 4, 5, dtype=torch.bool)
    assert suits_tiles(query, key, value, mask, False) == is_there
    long, wide = key[:, :, :1].expand(1, 2, LONGEST + 1, 8), query[..., :1].expand(1, 2, 4, WIDEST + 1)
    for inputs in (
        (query.float(), key, value, None, False), (query, long, long, None, False), (wide, wide, wide, None, False),
        (query, key, value[..., ::2], None, False), (query, key, value[..., :4], None, False),
        (query, key, value, mask.float(), False), (query, key, value, mask, True),
        (query, key[:, :, :3], value[:, :, :3], None, True),
    ):  # fmt: skip
        assert not suits_tiles(*inputs)
    with monkeypatch.context() as patch:
        patch.setattr(native, "has_tiles", lambda: False)
        assert not suits_tiles(query, key, value, mask, False)
    monkeypatch.setattr(native.Allowed, "is_on", False)
    assert not suits_tiles(query, key, value, mask, False)


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
        query, key, value, _ = draw((1, 2, 2, keys, keys, 64))
        with torch.set_grad_enabled(is_trained):
            out = attention.attend(query, key, value, None, SCALING, is_causal)
            assert bool(calls) is is_tiled
            calls.clear()
            if not is_causal:
                packed = torch.stack([each.transpose(1, 2) for each in (query, key, value)], 2)
                assert torch.equal(attention.attend_packed(packed, None, SCALING), out.transpose(1, 2).flatten(2))
                assert bool(calls) is is_tiled
        calls.clear()


def test_a_derivative_of_the_gradients_is_refused() -> None:
    query, key, value, _ = (each.float() for each in draw((1, 1, 1, 2, 2, 4)))
    query.requires_grad_()
    out = attend_tiles(query, key, value, None, 1.0, False)
    (gradient,) = torch.autograd.grad(out.square().sum(), query, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
