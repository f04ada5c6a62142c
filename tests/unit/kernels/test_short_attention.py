"""Attention of short rows in one kernel is exact up to a rounding, forward and backward, and the same for any number
of threads."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from afina.kernels import attention, native
from afina.kernels.short_attention import LONGEST, WIDEST, attend_packed, attend_short
from afina.testing.attention import MASKS, SCALING, draw_heads, make_mask, run_attention

# Rows, heads of queries and of keys, queries, keys, width: places around sixteen and thirty-two, blocks of queries.
SHAPES = [
    (1, 1, 1, 1, 1, 1), (2, 3, 3, 5, 5, 8), (2, 2, 1, 15, 16, 16), (1, 6, 2, 17, 33, 31), (3, 2, 2, 28, 28, 32),
    (2, 4, 2, 33, 33, 33), (1, 2, 2, 64, 70, 64), (1, 1, 1, LONGEST, LONGEST, WIDEST), (0, 2, 2, 3, 4, 8),
    (2, 2, 2, 0, 4, 8), (2, 2, 2, 3, 0, 8), (2, 0, 0, 3, 4, 8),
]  # fmt: skip
run = partial(run_attention, attend_short)

is_there = native.load_layer_kernels() is not None
needs_kernels = pytest.mark.skipif(
    not is_there, reason="the kernels weren't compiled, or the processor is without AVX512"
)


def assert_rounded(found: list[Tensor], exact: list[Tensor], sums: float = 1.0) -> None:
    """Numbers of exact ones rounded to bf16, and as near as sums in fp32 come, of numbers up to the largest one."""
    for one, other in zip(found, exact, strict=True):
        assert (one.dtype, one.shape) == (torch.bfloat16, other.shape)
        largest = float(other.abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(one.double(), other, rtol=2.0**-8, atol=sums * (1e-5 * largest + 1e-6))


def skip_without_key(shape: tuple[int, ...], kind: str) -> None:
    if kind == "causal" and shape[3] > shape[4]:
        pytest.skip("a query without a key")


@needs_kernels
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_are_exact_up_to_a_rounding(shape: tuple[int, ...], kind: str) -> None:
    """Beside the plain form in fp64, whose formulas `test_gradients_are_the_derivatives` proves."""
    skip_without_key(shape, kind)
    inputs, mask = draw_heads(shape), make_mask(kind, shape)
    found = run(inputs, mask, kind == "causal")
    assert_rounded(found, run([each.double() for each in inputs], mask, kind == "causal"))
    for one, other in zip(found, [inputs[0], *inputs[:3]], strict=True):
        assert one.shape == other.shape
        assert one.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("kind", ["none", "causal", "padding", "some"])
def test_the_plain_form_is_the_attention_of_torch(kind: str) -> None:
    shape = (2, 4, 2, 5, 7, 3)
    inputs, mask = [each.double() for each in draw_heads(shape)], make_mask(kind, shape)

    def apply(
        query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, is_causal: bool
    ) -> Tensor:
        pair = (each.repeat_interleave(2, 1) for each in (key, value))
        return functional.scaled_dot_product_attention(query, *pair, mask, is_causal=is_causal, scale=scaling)

    for one, other in zip(
        run(inputs, mask, kind == "causal"), run_attention(apply, inputs, mask, kind == "causal"), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["none", "causal", "some"])
def test_gradients_are_the_derivatives(kind: str) -> None:
    """Of the plain form, which computes any dtype."""
    shape = (2, 2, 1, 3, 4, 2)
    starts = [each.double().requires_grad_() for each in draw_heads(shape)[:3]]
    mask = make_mask(kind, shape)
    assert torch.autograd.gradcheck(lambda *each: attend_short(*each, mask, SCALING, kind == "causal"), starts)


@needs_kernels
def test_other_layouts() -> None:
    """Of masks, and of gradients: that of a sum is one number in memory."""
    shape = (2, 2, 2, 9, 11, 16)
    *inputs, direction = draw_heads(shape)
    mask = (torch.arange(9) > 3)[:, None].expand(2, 2, 9, 11)
    turned = torch.rand(2, 2, 11, 9, generator=torch.Generator().manual_seed(0)).transpose(2, 3) < 0.5
    for each in (mask, turned):
        found, wanted = (run([*inputs, direction], one, False) for one in (each, each.contiguous()))
        assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    found, wanted = (run([*inputs, one], None, False) for one in (torch.ones(()).bfloat16().expand(2, 2, 9, 16),
                                                                 torch.ones(2, 2, 9, 16).bfloat16()))  # fmt: skip
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))


@needs_kernels
def test_masks_of_every_length() -> None:
    """What is read of the end of a mask's row depends on its length and on what lies before."""
    for keys in range(1, 36):
        shape = (1, 2, 2, 3, keys, 8)
        mask = torch.rand((1, 2, 3, keys), generator=torch.Generator().manual_seed(keys)) < 0.5
        inputs = draw_heads(shape)
        exact = run([each.double() for each in inputs], mask, False)
        assert_rounded(run(inputs, mask, False), exact)


@needs_kernels
def test_a_query_that_may_look_nowhere_looks_everywhere_alike() -> None:
    shape = (1, 2, 2, 3, 21, 32)
    inputs, mask = draw_heads(shape), torch.ones(1, 2, 3, 21, dtype=torch.bool)
    mask[:, :, 1] = False
    out = attend_short(*inputs[:3], mask, SCALING, False)
    assert_rounded([out[:, :, 1]], [inputs[2].double().mean(2)])


@needs_kernels
def test_what_is_no_number_is_seen() -> None:
    for value in (float("nan"), float("inf")):
        query, key, values, direction = draw_heads((1, 1, 1, 6, 20, 32))
        query[0, 0, 4, 7] = value
        found = run([query, key, values, direction], None, False)
        assert torch.isfinite(found[0][0, 0, :4]).all()
        assert not torch.isfinite(found[0][0, 0, 4]).any()
        assert torch.isfinite(found[0][0, 0, 5]).all()
        assert torch.isfinite(found[1][0, 0, :4]).all()
        assert not torch.isfinite(found[2]).any()
    # Nothing is read of later keys, nor after the last one.
    query, key, values, direction = draw_heads((1, 1, 1, 20, 20, 32))
    key[0, 0, 8], values[0, 0, 12] = float("nan"), float("nan")
    out = attend_short(query, key, values, None, SCALING, True)
    assert torch.isfinite(out[0, 0, :8]).all()
    assert not torch.isfinite(out[0, 0, 8:]).any()


@needs_kernels
def test_nothing_is_written_beside_the_tensors() -> None:
    """The last row of a head ends where memory does that holds something else."""
    for width in (3, 31, 33):
        shape = (2, 2, 2, 5, 5, width)
        packed = torch.stack([each.transpose(1, 2) for each in draw_heads(shape)[:3]], 2).requires_grad_()
        (gradient,) = torch.autograd.grad(attend_packed(packed, None, SCALING).sum(), packed)
        exact = [each.detach().double() for each in packed.unbind(2)]
        direction = torch.ones(2, 5, 2, width).double()
        wanted = run([each.transpose(1, 2) for each in (*exact, direction)], None, False)[1:]
        assert_rounded(list(gradient.unbind(2)), [each.transpose(1, 2) for each in wanted])


def test_it_keeps_its_inputs() -> None:
    shape = (2, 4, 2, 6, 7, 8)
    mask = torch.ones(2, 1, 1, 7, dtype=torch.bool).expand(2, 4, 6, 7)
    starts = [each.requires_grad_() for each in draw_heads(shape)[:3]]
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        attend_short(*starts, mask, SCALING, False)
    assert [each.data_ptr() for each in kept] == [each.data_ptr() for each in (*starts, mask)]


@needs_kernels
def test_attention_gives_it_short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.Size] = []

    def count(query: Tensor, *rest: Any) -> Tensor:
        calls.append(query.shape)
        return attend_short(query, *rest)

    monkeypatch.setattr(attention, "attend_short", count)
    monkeypatch.setattr(attention, "suits_tiles", lambda *rest: False)
    for keys, is_causal, is_trained, is_short in (
        (28, False, True, True), (29, False, True, False), (42, True, True, True), (43, True, True, False),
        (48, False, False, True), (49, False, False, False),
    ):  # fmt: skip
        query, key, value, _ = draw_heads((1, 2, 2, keys, keys, 64))
        with torch.set_grad_enabled(is_trained):
            attention.attend(query, key, value, None, SCALING, is_causal)
        assert bool(calls) is is_short
        calls.clear()
