"""Attention of short rows in one kernel is exact up to a rounding, forward and backward, and the same for any number
of threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from afina.kernels import attention, native
from afina.kernels.short_attention import LONGEST, WIDEST, attend_packed, attend_short, suits_short

# Rows, heads of queries and of keys, queries, keys, width: places around sixteen and thirty-two, blocks of queries.
SHAPES = [
    (1, 1, 1, 1, 1, 1), (2, 3, 3, 5, 5, 8), (2, 2, 1, 15, 16, 16), (1, 6, 2, 17, 33, 31), (3, 2, 2, 28, 28, 32),
    (2, 4, 2, 33, 33, 33), (1, 2, 2, 64, 70, 64), (1, 1, 1, LONGEST, LONGEST, WIDEST), (0, 2, 2, 3, 4, 8),
    (2, 2, 2, 0, 4, 8), (2, 2, 2, 3, 0, 8), (2, 0, 0, 3, 4, 8),
]  # fmt: skip
MASKS = ["none", "causal", "padding", "some", "none but some rows"]
SCALING = 0.3

is_there = native.load_layer_kernels() is not None
needs_kernels = pytest.mark.skipif(
    not is_there, reason="the kernels weren't compiled, or the processor is without AVX512"
)


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
    mask = torch.rand((rows, 1, queries, keys), generator=torch.Generator().manual_seed(2)) < 0.5
    mask[..., :1] = True
    if kind == "none but some rows":
        mask[:, :, ::2] = False
    return mask.expand(rows, heads, queries, keys)


def run(inputs: list[Tensor], mask: Tensor | None, is_causal: bool, apply: Any = attend_short) -> list[Tensor]:
    """Output and gradients."""
    *inputs, direction = inputs
    starts = [each.detach().requires_grad_() for each in inputs]
    out = apply(*starts, mask, SCALING, is_causal)
    return [out.detach(), *torch.autograd.grad(out, starts, direction)]


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
    inputs, mask = draw(shape), make_mask(kind, shape)
    found = run(inputs, mask, kind == "causal")
    assert_rounded(found, run([each.double() for each in inputs], mask, kind == "causal"))
    for one, other in zip(found, [inputs[0], *inputs[:3]], strict=True):
        assert one.shape == other.shape
        assert one.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("kind", ["none", "causal", "padding", "some"])
def test_the_plain_form_is_the_attention_of_torch(kind: str) -> None:
    shape = (2, 4, 2, 5, 7, 3)
    inputs, mask = [each.double() for each in draw(shape)], make_mask(kind, shape)

    def apply(
        query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, is_causal: bool
    ) -> Tensor:
        pair = (each.repeat_interleave(2, 1) for each in (key, value))
        return functional.scaled_dot_product_attention(query, *pair, mask, is_causal=is_causal, scale=scaling)

    for one, other in zip(run(inputs, mask, kind == "causal"), run(inputs, mask, kind == "causal", apply), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["none", "causal", "some"])
def test_gradients_are_the_derivatives(kind: str) -> None:
    """Of the plain form, which computes any dtype."""
    shape = (2, 2, 1, 3, 4, 2)
    starts = [each.double().requires_grad_() for each in draw(shape)[:3]]
    mask = make_mask(kind, shape)
    assert torch.autograd.gradcheck(lambda *each: attend_short(*each, mask, SCALING, kind == "causal"), starts)


@needs_kernels
@pytest.mark.parametrize("kind", MASKS)
def test_bits_do_not_depend_on_the_number_of_threads(kind: str) -> None:
    shape = (3, 6, 3, 37, 45, 24)
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(run(draw(shape), make_mask(kind, shape), kind == "causal"))
    for other in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], other, strict=True))


@needs_kernels
@pytest.mark.parametrize("kind", MASKS)
def test_one_tensor_of_queries_keys_and_values(kind: str) -> None:
    rows, heads, places, width = 2, 3, 21, 20
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


@needs_kernels
def test_other_layouts() -> None:
    """Of masks, and of gradients: that of a sum is one number in memory."""
    shape = (2, 2, 2, 9, 11, 16)
    *inputs, direction = draw(shape)
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
        inputs = draw(shape)
        exact = run([each.double() for each in inputs], mask, False)
        assert_rounded(run(inputs, mask, False), exact)


@needs_kernels
def test_a_query_that_may_look_nowhere_looks_everywhere_alike() -> None:
    shape = (1, 2, 2, 3, 21, 32)
    inputs, mask = draw(shape), torch.ones(1, 2, 3, 21, dtype=torch.bool)
    mask[:, :, 1] = False
    out = attend_short(*inputs[:3], mask, SCALING, False)
    assert_rounded([out[:, :, 1]], [inputs[2].double().mean(2)])


@needs_kernels
def test_what_is_no_number_is_seen() -> None:
    for value in (float("nan"), float("inf")):
        query, key, values, direction = draw((1, 1, 1, 6, 20, 32))
        query[0, 0, 4, 7] = value
        found = run([query, key, values, direction], None, False)
        assert torch.isfinite(found[0][0, 0, :4]).all()
        assert not torch.isfinite(found[0][0, 0, 4]).any()
        assert torch.isfinite(found[0][0, 0, 5]).all()
        assert torch.isfinite(found[1][0, 0, :4]).all()
        assert not torch.isfinite(found[2]).any()
    # Nothing is read of later keys, nor behind the last one.
    query, key, values, direction = draw((1, 1, 1, 20, 20, 32))
    key[0, 0, 8], values[0, 0, 12] = float("nan"), float("nan")
    out = attend_short(query, key, values, None, SCALING, True)
    assert torch.isfinite(out[0, 0, :8]).all()
    assert not torch.isfinite(out[0, 0, 8:]).any()


@needs_kernels
def test_nothing_is_written_beside_the_tensors() -> None:
    """The last row of a head ends where memory does that holds something else."""
    for width in (3, 31, 33):
        shape = (2, 2, 2, 5, 5, width)
        packed = torch.stack([each.transpose(1, 2) for each in draw(shape)[:3]], 2).requires_grad_()
        (gradient,) = torch.autograd.grad(attend_packed(packed, None, SCALING).sum(), packed)
        exact = [each.detach().double() for each in packed.unbind(2)]
        direction = torch.ones(2, 5, 2, width).double()
        wanted = run([each.transpose(1, 2) for each in (*exact, direction)], None, False)[1:]
        assert_rounded(list(gradient.unbind(2)), [each.transpose(1, 2) for each in wanted])


def test_it_keeps_its_inputs() -> None:
    shape = (2, 4, 2, 6, 7, 8)
    mask = torch.ones(2, 1, 1, 7, dtype=torch.bool).expand(2, 4, 6, 7)
    starts = [each.requires_grad_() for each in draw(shape)[:3]]
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        attend_short(*starts, mask, SCALING, False)
    assert [each.data_ptr() for each in kept] == [each.data_ptr() for each in (*starts, mask)]


def test_tensors_without_numbers_take_the_plain_form() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        starts = [torch.empty(2, 6, 4, 8, dtype=torch.bfloat16).transpose(1, 2).requires_grad_() for _ in range(3)]
        out = attend_short(*starts, None, SCALING, False)
        assert out.shape == starts[0].shape
        assert out.transpose(1, 2).is_contiguous()
        assert [each.shape for each in torch.autograd.grad(out.sum(), starts)] == [out.shape] * 3


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    query, key, value, _ = draw((2, 4, 2, 5, 6, 8))
    for inputs in (
        (query, key, value[:, :, :5]), (query, key[:1], value[:1]), (query, key[..., :7], value[..., :7]),
        (query[:, :3], key, value), (query, key[:, :0], value[:, :0]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="heads of queries for each"):
            attend_short(*inputs, None, SCALING, False)
    mask = torch.ones(2, 4, 5, 6, dtype=torch.bool)
    with pytest.raises(ValueError, match="the mask's shape"):
        attend_short(query, key, value, mask[:, :1], SCALING, False)
    with pytest.raises(ValueError, match="takes no mask"):
        attend_short(query, key, value, mask, SCALING, True)


def test_what_the_kernel_does_not_know_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value, _ = draw((1, 2, 2, 4, 5, 8))
    mask: Any = torch.ones(1, 2, 4, 5, dtype=torch.bool)
    assert suits_short(query, key, value, mask, False) == is_there
    long, wide = key[:, :, :1].expand(1, 2, LONGEST + 1, 8), query[..., :1].expand(1, 2, 4, WIDEST + 1)
    for inputs in (
        (query.float(), key, value, None, False), (query, long, long, None, False), (wide, wide, wide, None, False),
        (query, key, value[..., ::2], None, False), (query, key, value[..., :4], None, False),
        (query, key, value, mask.float(), False), (query, key, value, mask, True),
        (query, key[:, :, :3], value[:, :, :3], None, True),
    ):  # fmt: skip
        assert not suits_short(*inputs)
    monkeypatch.setattr(native, "has_wide_vectors", lambda: False)
    assert not suits_short(query, key, value, mask, False)


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
        query, key, value, _ = draw((1, 2, 2, keys, keys, 64))
        with torch.set_grad_enabled(is_trained):
            attention.attend(query, key, value, None, SCALING, is_causal)
        assert bool(calls) is is_short
        calls.clear()


def test_a_derivative_of_the_gradients_is_refused() -> None:
    query, key, value, _ = (each.float() for each in draw((1, 1, 1, 2, 2, 4)))
    query.requires_grad_()
    (gradient,) = torch.autograd.grad(
        attend_short(query, key, value, None, 1.0, False).square().sum(), query, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
