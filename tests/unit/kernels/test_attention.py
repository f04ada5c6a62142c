"""Our attention is torch's, forward and backward, whatever the mask, the shape and the chunks; and models call it.

In fp64 the two differ by rounding alone, so that the mathematics is tested; in bf16 ours must be as near to the exact
result as torch's is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from afina.kernels import attention, short_attention
from afina.kernels.attention import attend, iterate_chunks, suits_products

SHAPES = [(2, 4, 7, 7, 8), (3, 2, 5, 9, 4), (1, 3, 16, 16, 8), (4, 1, 2, 2, 16)]
MASKS = ["none", "causal", "padding", "block", "float"]


def make_inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Query, key and value as models give them: heads split from a flat last dimension, so not contiguous."""
    rows, heads, queries, keys, width = shape
    generator = torch.Generator().manual_seed(0)
    sizes = [(rows, length, heads, width) for length in (queries, keys, keys)]
    flat = [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes]
    return [each.transpose(1, 2).requires_grad_() for each in flat]


def make_mask(kind: str, shape: tuple[int, ...]) -> tuple[torch.Tensor | None, bool]:
    """A mask that leaves each query a key, and whether the call is causal instead."""
    rows, _, queries, keys, _ = shape
    if kind in ("none", "causal"):
        return None, kind == "causal"
    mask = torch.ones(rows, 1, queries, keys, dtype=torch.bool)
    if kind == "padding":
        mask[-1, :, :, keys // 2 + 1 :] = False
    if kind == "block":
        blocks = torch.arange(max(queries, keys)) // 3
        mask &= blocks[:queries, None] == blocks[None, :keys]
    if kind == "float":
        return torch.randn(1, 1, queries, keys, dtype=torch.float64), False
    return mask, False


@pytest.fixture(params=["kept", "a row at a time", "a head at a time", "kernels"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way in which the scores may be divided, without the kernels of their own, and with them."""
    if request.param != "kernels":
        monkeypatch.setattr(attention, "suits_tiles", lambda *given: False)
        monkeypatch.setattr(attention, "suits_short", lambda *given: False)
    if "at a time" in request.param:
        monkeypatch.setattr(attention, "KEPT_BYTES", 0)
        monkeypatch.setattr(attention, "CHUNK_BYTES", 16 * 16 * 8 * 4 if "row" in request.param else 1)
    return str(request.param)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_output_and_gradients_are_those_of_torch(shape: tuple[int, ...], kind: str, way: str) -> None:
    mask, is_causal = make_mask(kind, shape)
    if is_causal and shape[2] != shape[3]:
        pytest.skip("causal attention has as many queries as keys")
    ours, theirs = make_inputs(shape), make_inputs(shape)
    found = attend(*ours, mask, 0.3, is_causal)
    wanted = functional.scaled_dot_product_attention(*theirs, attn_mask=mask, is_causal=is_causal, scale=0.3)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)
    direction = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (found * direction).sum().backward()  # type: ignore[no-untyped-call]
    (wanted * direction).sum().backward()  # type: ignore[no-untyped-call]
    for one, other in zip(ours, theirs, strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad, other.grad, atol=1e-12, rtol=1e-12)


def test_bf16_is_as_near_to_the_exact_result_as_torch(way: str) -> None:
    shape = (2, 4, 33, 33, 16)
    exact = functional.scaled_dot_product_attention(*make_inputs(shape))
    rounded = make_inputs(shape, torch.bfloat16)
    ours = attend(*rounded, None, 16**-0.5, False)
    theirs = functional.scaled_dot_product_attention(*rounded)
    assert (ours - exact).abs().max() <= 1.5 * (theirs - exact).abs().max()


def test_a_row_of_padding_alone_gives_numbers(way: str) -> None:
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[0, :, :2] = False
    query, key, value = make_inputs((2, 4, 5, 5, 8))
    out = attend(query, key, value, mask, 0.3, False)
    out.sum().backward()  # type: ignore[no-untyped-call]
    assert out.isfinite().all()
    assert query.grad is not None
    assert query.grad.isfinite().all()


def test_chunks_cover_every_head_once(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, _ = make_inputs((5, 3, 4, 4, 2))
    one_head = 4 * 4 * query.element_size()
    for heads in (1, 2, 3, 7, 15, 100):
        monkeypatch.setattr(attention, "CHUNK_BYTES", heads * one_head)
        seen = torch.zeros(5, 3)
        for part in iterate_chunks(query, key):
            seen[part] += 1
            assert seen[part].numel() <= max(1, heads)
        assert (seen == 1).all()


def test_only_what_it_can_compute_is_given_to_it() -> None:
    query = torch.zeros(1, 2, 4, 8, dtype=torch.bfloat16)
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    plain: dict[str, Any] = {"query": query, "key": query, "mask": mask, "dropout": 0.0, "is_causal": False}
    plain["options"] = {}
    assert suits_products(**plain)
    bias = torch.zeros(1, 1, 4, 4, requires_grad=True)
    for change in (
        {"query": query.float()}, {"query": query[:, :, :1]}, {"dropout": 0.1}, {"mask": bias},
        {"is_causal": True, "key": query[:, :, :3]}, {"options": {"position_bias": bias}},
        {"options": {"softcap": 3.0}},
    ):  # fmt: skip
        assert not suits_products(**{**plain, **change}), change
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert suits_products(**{**plain, "query": query.float()})


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "modernbert", "gpt2", "llama", "qwen3", "gemma3"])
def test_models_call_it_and_give_the_logits_of_the_fused_kernel(
    family: str, tiny_models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from afina.models.load import load_classifier

    calls: list[torch.Size] = []

    def count(compute: Any) -> Any:
        def run(query: torch.Tensor, *rest: Any) -> torch.Tensor:
            calls.append(query.shape)
            return compute(query, *rest)  # type: ignore[no-any-return]

        return run

    monkeypatch.setattr(attention, "attend", count(attend))
    monkeypatch.setattr(short_attention, "attend_packed", count(short_attention.attend_packed))
    folder = tiny_models(family)
    ids = torch.arange(5, 29).reshape(2, 12)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    logits = {}
    for name in ("sdpa", "auto"):
        torch.manual_seed(0)
        model = load_classifier(folder, {"num_labels": 3}, 0, attention=name).model.eval()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits[name] = model(input_ids=ids, attention_mask=mask).logits
        assert bool(calls) is (name == "auto")
        calls.clear()
    scale = logits["sdpa"].abs().max()
    assert (logits["auto"] - logits["sdpa"]).abs().max() <= 0.03 * scale
    model.save_pretrained(tmp_path)
    assert "afina" not in (tmp_path / "config.json").read_text(encoding="utf-8")
