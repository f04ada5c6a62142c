"""What holds for every kernel of attention: for any number of threads, for one tensor of queries, keys and values, for
tensors without numbers, and where two derivatives are asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from afina.kernels import native, short_attention, tile_attention
from afina.kernels.short_attention import attend_short
from afina.kernels.tile_attention import attend_tiles
from afina.testing.attention import MASKS, SCALING, draw_heads, make_mask, run_attention

Attend = Callable[..., Any]
IS_THERE = {
    attend_short: native.load_layer_kernels() is not None, attend_tiles: native.load_tile_kernels() is not None
}  # fmt: skip

each_way = pytest.mark.parametrize(
    ("module", "attend"), [(short_attention, attend_short), (tile_attention, attend_tiles)], ids=["short", "tiles"]
)
each_mask = pytest.mark.parametrize("kind", MASKS)


def skip_without(attend: Attend) -> None:
    if not IS_THERE[attend]:
        pytest.skip("the kernels weren't compiled, or the processor can't compute them")


@each_mask
@each_way
def test_bits_do_not_depend_on_the_number_of_threads(module: ModuleType, attend: Attend, kind: str) -> None:
    skip_without(attend)
    shape = (3, 6, 3, 77, 85, 24)
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(run_attention(attend, draw_heads(shape), make_mask(kind, shape), kind == "causal"))
    for other in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], other, strict=True))


@each_mask
@pytest.mark.parametrize("places", [21, 45])
@each_way
def test_one_tensor_of_queries_keys_and_values(module: ModuleType, attend: Attend, places: int, kind: str) -> None:
    skip_without(attend)
    shape = (2, 3, 3, places, places, 20)
    *inputs, direction = draw_heads(shape)
    mask, is_causal = make_mask(kind, shape), kind == "causal"
    run = partial(run_attention, attend, mask=mask, is_causal=is_causal)
    wanted = run([*inputs, direction])
    packed = torch.stack([each.transpose(1, 2) for each in inputs], 2).requires_grad_()
    out = module.attend_packed(packed, mask, SCALING, is_causal)
    assert torch.equal(out, wanted[0].transpose(1, 2).flatten(2))
    (gradient,) = torch.autograd.grad(out, packed, direction.transpose(1, 2).flatten(2))
    assert gradient.is_contiguous()
    for found, other in zip(gradient.unbind(2), wanted[1:], strict=True):
        assert torch.equal(found, other.transpose(1, 2))
    # Views of it are read where they lie.
    views = [each.transpose(1, 2) for each in packed.detach().unbind(2)]
    for one, other in zip(run([*views, direction]), wanted, strict=True):
        assert torch.equal(one, other)


@each_way
def test_tensors_without_numbers_take_the_plain_form(module: ModuleType, attend: Attend) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        starts = [torch.empty(2, 6, 4, 8, dtype=torch.bfloat16).transpose(1, 2).requires_grad_() for _ in range(3)]
        out = attend(*starts, None, SCALING, False)
        assert out.shape == starts[0].shape
        assert out.transpose(1, 2).is_contiguous()
        assert [each.shape for each in torch.autograd.grad(out.sum(), starts)] == [out.shape] * 3


@each_way
def test_shapes_that_do_not_belong_together_are_refused(module: ModuleType, attend: Attend) -> None:
    query, key, value, _ = draw_heads((2, 4, 2, 5, 6, 8))
    for inputs in (
        (query, key, value[:, :, :5]), (query, key[:1], value[:1]), (query, key[..., :7], value[..., :7]),
        (query[:, :3], key, value), (query, key[:, :0], value[:, :0]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="heads of queries for each"):
            attend(*inputs, None, SCALING, False)
    mask = torch.ones(2, 4, 5, 6, dtype=torch.bool)
    with pytest.raises(ValueError, match="the mask's shape"):
        attend(query, key, value, mask[:, :1], SCALING, False)
    with pytest.raises(ValueError, match="takes no mask"):
        attend(query, key, value, mask, SCALING, True)


@pytest.mark.parametrize(
    ("module", "suits"), [(short_attention, "suits_short"), (tile_attention, "suits_tiles")], ids=["short", "tiles"]
)
def test_what_a_kernel_does_not_know_is_left_to_others(
    module: ModuleType, suits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find: Any = getattr(module, suits)
    query, key, value, _ = draw_heads((1, 2, 2, 4, 5, 8))
    mask: Any = torch.ones(1, 2, 4, 5, dtype=torch.bool)
    assert find(query, key, value, mask, False) == IS_THERE[attend_short if suits == "suits_short" else attend_tiles]
    long = key[:, :, :1].expand(1, 2, module.LONGEST + 1, 8)
    wide = query[..., :1].expand(1, 2, 4, module.WIDEST + 1)
    for inputs in (
        (query.float(), key, value, None, False), (query, long, long, None, False), (wide, wide, wide, None, False),
        (query, key, value[..., ::2], None, False), (query, key, value[..., :4], None, False),
        (query, key, value, mask.float(), False), (query, key, value, mask, True),
        (query, key[:, :, :3], value[:, :, :3], None, True),
    ):  # fmt: skip
        assert not find(*inputs)
    for part, answer in ((native, "has_wide_vectors"), (native.Allowed, "is_on")):
        with monkeypatch.context() as patch:
            patch.setattr(part, answer, False if answer == "is_on" else lambda: False)
            assert not find(query, key, value, mask, False)


@each_way
def test_a_derivative_of_the_gradients_is_refused(module: ModuleType, attend: Attend) -> None:
    query, key, value, _ = (each.float() for each in draw_heads((1, 1, 1, 2, 2, 4)))
    query.requires_grad_()
    out: Tensor = attend(query, key, value, None, 1.0, False)
    (gradient,) = torch.autograd.grad(out.square().sum(), query, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()  # type: ignore[no-untyped-call]
