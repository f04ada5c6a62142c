"""Layers are given to kernels where they compute what the kernels do, and nowhere else; nothing else changes."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Gemma3TextConfig, LlamaConfig, Qwen3Config
from transformers.models.gemma3.modeling_gemma3 import Gemma3MLP, Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm
from transformers.models.phi3.modeling_phi3 import Phi3RMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP, Qwen3RMSNorm

from afina.advice.outline import fake_tensors
from afina.kernels import native
from afina.models.compiled_layers import find_compiled_class, use_compiled_layers
from afina.models.compiled_layers.rotations import find_rounding
from afina.models.load import load_language_model

needs_kernels = pytest.mark.skipif(native.load_layer_kernels() is None, reason="the kernels weren't compiled")


@pytest.fixture(autouse=True)
def _allow() -> Iterator[None]:
    yield
    native.allow_compiled(True)


class ShiftedRMSNorm(LlamaRMSNorm):
    """The name of a norm, and another output."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states) + 1e-4


class PickyRMSNorm(LlamaRMSNorm):
    """One that can't be tried."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("not on this machine")


@needs_kernels
@pytest.mark.parametrize("kind", [LlamaRMSNorm, MistralRMSNorm, Phi3RMSNorm, Qwen2RMSNorm, Qwen3RMSNorm, Gemma3RMSNorm])
def test_norms_of_known_families_are_compiled(kind: type) -> None:
    layer = kind(40, eps=1e-5)
    nn.init.normal_(layer.weight)
    inputs = [torch.randn(3, 5, 40).to(dtype) for dtype in (torch.float32, torch.bfloat16)]
    wanted = [layer(each) for each in inputs]
    assert use_compiled_layers(nn.Sequential(layer, nn.Linear(2, 2))) == 1
    assert isinstance(layer, kind)
    assert type(layer) is not kind
    for one, other in zip(inputs, wanted, strict=True):
        torch.testing.assert_close(layer(one), other)
        assert layer(one).grad_fn.name() == "NormaliseBackward"
    assert use_compiled_layers(layer) == 0, "a second time changes nothing"
    doubled = layer(inputs[0].double())
    assert doubled.grad_fn.name() != "NormaliseBackward", "fp64 is the layer's own"


@needs_kernels
@pytest.mark.parametrize("kind", [Olmo2RMSNorm, ShiftedRMSNorm, PickyRMSNorm, nn.RMSNorm, nn.LayerNorm])
def test_norms_that_compute_otherwise_stay_as_they_are(kind: type) -> None:
    """Olmo 2 multiplies before it rounds."""
    layer = kind(24)
    assert find_compiled_class(layer) is None
    assert use_compiled_layers(layer) == 0
    assert type(layer) is kind


@needs_kernels
@pytest.mark.parametrize(
    ("kind", "config"), [(LlamaMLP, LlamaConfig), (Qwen3MLP, Qwen3Config), (Gemma3MLP, Gemma3TextConfig)]
)
def test_gated_layers_are_compiled_where_the_activation_is_known(kind: Any, config: Any) -> None:
    name = "hidden_activation" if kind is Gemma3MLP else "hidden_act"
    for activation, is_known in (("silu", True), ("gelu_pytorch_tanh", True), ("gelu", False), ("relu", False)):
        layer = kind(config(hidden_size=32, intermediate_size=40, **{name: activation}))
        inputs = torch.randn(3, 32, requires_grad=True)
        wanted = layer(inputs)
        assert use_compiled_layers(layer) == (is_known or activation == "gelu"), "GELU by itself is one"
        assert isinstance(layer, kind)
        torch.testing.assert_close(layer(inputs), wanted)
        assert (type(layer) is kind) == (not is_known)
        assert torch.equal(copy.deepcopy(layer)(inputs), layer(inputs))


@needs_kernels
def test_gated_layers_that_compute_otherwise_stay_as_they_are() -> None:
    class ScaledMLP(LlamaMLP):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.down_proj(2 * self.act_fn(self.gate_proj(x)) * self.up_proj(x))

    assert find_compiled_class(ScaledMLP(LlamaConfig(hidden_size=32, intermediate_size=40))) is None


@needs_kernels
def test_copies_and_pickles_compute_alike_and_states_are_those_of_the_layer() -> None:
    layer = LlamaRMSNorm(24)
    nn.init.normal_(layer.weight)
    names = list(layer.state_dict())
    use_compiled_layers(layer)
    assert list(layer.state_dict()) == names
    assert type(layer).__name__ == "LlamaRMSNorm"
    file = io.BytesIO()
    pickle.dump(layer, file)
    file.seek(0)
    inputs = torch.randn(4, 24)
    for other in (copy.deepcopy(layer), pickle.load(file)):
        assert type(other) is type(layer)
        assert other.weight is not layer.weight
        assert torch.equal(other(inputs), layer(inputs))


@needs_kernels
@pytest.mark.parametrize("family", ["llama", "mistral", "phi3", "qwen2", "qwen3", "gemma3"])
def test_models_give_the_same_logits_and_files(family: str, tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    ids = torch.arange(2 * 9).view(2, 9) % 7 + 3
    logits, gradients = {}, {}
    for is_on in (True, False):
        native.allow_compiled(is_on)
        model: Any = load_language_model(tiny_models(family)).model.eval()
        assert any(hasattr(module, "is_compiled") for module in model.modules()) == is_on
        found = model(input_ids=ids).logits
        found.square().mean().backward()
        logits[is_on] = found.detach()
        gradients[is_on] = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            answer = model.generate(ids[:1], max_new_tokens=3, min_new_tokens=3, do_sample=False)
        assert answer.shape == (1, 12)
        model.save_pretrained(tmp_path / str(is_on))
    torch.testing.assert_close(logits[True], logits[False], rtol=1e-4, atol=1e-5)
    assert gradients[True].keys() == gradients[False].keys()
    torch.testing.assert_close(gradients[True], gradients[False], rtol=1e-3, atol=1e-6)
    assert sorted(path.name for path in (tmp_path / "True").iterdir()) == sorted(
        path.name for path in (tmp_path / "False").iterdir()
    )
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "True" / name).read_bytes() == (tmp_path / "False" / name).read_bytes()


@needs_kernels
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "mistral", "phi3"])
def test_queries_and_keys_are_turned_by_a_kernel(family: str, tiny_models: Callable[[str], Path]) -> None:
    model = load_language_model(tiny_models(family), dtype=torch.float32).model
    layer = next(module for module in model.modules() if type(module).__name__.endswith("Attention"))
    assert hasattr(layer, "is_compiled")
    ids = torch.randint(0, 40, (2, 9), generator=torch.Generator().manual_seed(0))
    found = model(ids).logits
    names = set()
    pending = [found.grad_fn]
    while pending:
        node = pending.pop()
        if node is not None and node not in names:
            names.add(node)
            pending += [each for each, _ in node.next_functions]
    assert "TurnBackward" in {node.name() for node in names}
    native.allow_compiled(False)
    plain = load_language_model(tiny_models(family), dtype=torch.float32).model
    assert not any(hasattr(module, "is_compiled") for module in plain.modules())
    torch.testing.assert_close(found, plain(ids).logits, rtol=1e-4, atol=1e-5)
    doubled = copy.deepcopy(layer)
    assert type(doubled) is type(layer)
    assert type(pickle.loads(pickle.dumps(layer))) is type(layer)


@needs_kernels
def test_a_function_that_turns_otherwise_stays() -> None:
    """Cohere turns neighbours and not halves."""
    from transformers.models.cohere import modeling_cohere
    from transformers.models.llama import modeling_llama
    from transformers.models.modernbert import modeling_modernbert

    assert find_rounding(modeling_cohere.apply_rotary_pos_emb) is None
    assert find_rounding(modeling_llama.apply_rotary_pos_emb) is True
    assert find_rounding(modeling_modernbert.apply_rotary_pos_emb) is False
    assert find_rounding(lambda q, k, cos, sin: (q, k)) is None
    assert find_rounding(lambda one, two, three, four: (one, two)) is None


@needs_kernels
def test_layers_without_numbers_are_tried_with_numbers() -> None:
    """As a plan does, which counts what they keep."""

    class Mine(LlamaRMSNorm):
        """A class that nobody has tried before."""

    Mine.__name__ = "MyRMSNorm"
    with fake_tensors():
        layer = Mine(40)
        layer.weight = nn.Parameter(torch.empty(40, dtype=torch.bfloat16))
        assert use_compiled_layers(layer) == 1
        kept: list[torch.Tensor] = []
        inputs = torch.zeros(3, 40, dtype=torch.bfloat16, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
            assert layer(inputs).shape == (3, 40)
        assert sorted(each.nbytes for each in kept) == [3 * 4, 40 * 2, 3 * 40 * 2]
