"""Our LoRA layer is peft's, forward and backward; whatever it can't compute goes to peft's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import nn

from afina.kernels import native
from afina.kernels.dropout import draw_key, drop
from afina.kernels.lora import find_plain_adapter, use_lora_products


def build(dropout: float = 0.0, **settings: Any) -> Any:
    """A small network whose layers have an adapter that changes something."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5, bias=False))
    config = peft.LoraConfig(r=3, lora_alpha=7, lora_dropout=dropout, target_modules=["0", "2"], **settings)
    model = peft.get_peft_model(net, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return model.double()


def run(model: Any, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """Output, and gradients of the input and of every parameter."""
    inputs = inputs.clone().requires_grad_()
    out = model(inputs)
    (out * torch.arange(out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    assert inputs.grad is not None
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"out": out.detach(), "input": inputs.grad, **found}


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6)])
def test_outputs_and_gradients_are_pefts(shape: tuple[int, ...]) -> None:
    inputs = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours, theirs = build(), build()
    assert use_lora_products(ours) == 2
    found, wanted = run(ours, inputs), run(theirs, inputs)
    assert found.keys() == wanted.keys()
    assert len(found) == 2 + 4, "A and B of both layers, nothing of the base"
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)


def test_bf16_is_as_near_to_the_exact_result_as_pefts() -> None:
    inputs = torch.randn(64, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    exact = run(build(), inputs)
    errors = []
    for is_ours in (True, False):
        model = build().float()
        if is_ours:
            use_lora_products(model)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = run(model, inputs.float())
        errors.append(max(float((found[name].double() - exact[name]).norm() / exact[name].norm()) for name in exact))
    assert errors[0] <= 1.5 * errors[1]


def test_what_it_cannot_compute_is_left_to_peft() -> None:
    model = build(dropout=0.5)
    use_lora_products(model)
    layer = next(module for module in model.modules() if hasattr(module, "lora_A"))
    assert find_plain_adapter(layer) == (None if native.load_layer_kernels() is None else "default")
    native.allow_compiled(False)
    assert find_plain_adapter(layer) is None, "dropout is torch's own, which is peft's"
    native.allow_compiled(True)
    model.eval()
    assert find_plain_adapter(layer) == "default"
    with model.disable_adapter():
        assert find_plain_adapter(layer) is None
    assert find_plain_adapter(next(m for m in build(use_dora=True).modules() if hasattr(m, "lora_A"))) is None
    layer.base_layer.weight.requires_grad_(True)
    assert find_plain_adapter(layer) is None


@pytest.mark.skipif(native.load_layer_kernels() is None, reason="the kernels weren't compiled")
def test_dropout_is_the_same_mask_forwards_and_backwards() -> None:
    inputs = torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours, theirs = build(dropout=0.4), build(dropout=0.4)
    use_lora_products(ours)
    torch.manual_seed(5)
    masks = [drop(torch.ones(40, width, dtype=torch.float64), 0.4, draw_key()) for width in (6, 8)]
    layers = [module for module in theirs.modules() if hasattr(module, "lora_A")]
    for layer, mask in zip(layers, masks, strict=True):
        layer.lora_dropout["default"].forward = lambda given, mask=mask: given * mask
    torch.manual_seed(5)
    found, wanted = run(ours, inputs), run(theirs, inputs)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)
    assert not torch.equal(run(ours, inputs)["out"], found["out"]), "another pass draws other places"
    ours.eval()
    assert torch.equal(ours(inputs), ours(inputs))


def test_it_is_switched_off_and_merged_like_pefts(tiny_models: Callable[[str], Path]) -> None:
    inputs = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    model = build().eval()
    use_lora_products(model)
    adapted = model(inputs)
    with model.disable_adapter():
        plain = model(inputs)
    assert not torch.allclose(adapted, plain), "the adapter changes something"
    torch.testing.assert_close(model.merge_and_unload()(inputs), adapted)
