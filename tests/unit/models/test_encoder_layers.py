"""Encoders' layers are given to kernels where they compute what the kernels do; scores, gradients and files stay."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig
from transformers.activations import ACT2FN
from transformers.models.bert.modeling_bert import BertLayer, BertSelfAttention, BertSelfOutput

from afina.kernels import native
from afina.kernels.linear import copy_weights
from afina.models.compiled_layers import find_compiled_class, projections, use_compiled_layers
from afina.models.load import ATTENTION, load_classifier
from afina.techniques.base import checkpoint_activations

pytestmark = pytest.mark.skipif(native.load_layer_kernels() is None, reason="the kernels weren't compiled")

HEAD = {"num_labels": 3, "problem_type": "single_label_classification"}
FAMILIES = ("bert", "electra", "roberta", "xlm-roberta")


@pytest.fixture(autouse=True)
def _allow() -> Iterator[None]:
    yield
    native.allow_compiled(True)


@pytest.fixture
def load(tiny_models: Callable[[str], Path]) -> Callable[..., Any]:
    """`load(family, compiled=True, dropout=0.0)`: a classifier that trains."""

    def build(family: str, compiled: bool = True, dropout: float = 0.0) -> Any:
        native.allow_compiled(compiled)
        torch.manual_seed(0)
        return load_classifier(tiny_models(family), HEAD, 0, dropout=dropout).model.train()

    return build


def make_batch() -> dict[str, Tensor]:
    ids = torch.arange(3 * 9).view(3, 9) % 7 + 3
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def run(model: Any, dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the gradients of a loss; products are computed in the dtype."""
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits = model(**make_batch()).logits
    model.zero_grad()
    (logits * torch.tensor([1.0, -2.0, 3.0])).sum().backward()
    return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def count_kinds(model: nn.Module) -> dict[str, int]:
    """How many layers compute by kernels, by what their class's name ends with."""
    names = [type(module).__name__ for module in model.modules() if hasattr(module, "is_compiled")]
    return {
        end: sum(name.endswith(end) for name in names)
        for end in ("SelfAttention", "SelfOutput", "Output", "GELUActivation")
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_of_known_families_are_compiled(family: str, load: Callable[..., Any]) -> None:
    found = count_kinds(load(family))
    assert (found["SelfAttention"], found["SelfOutput"], found["Output"]) == (2, 2, 4)
    assert found["GELUActivation"] >= 2
    assert not any(count_kinds(load(family, compiled=False)).values())


@pytest.mark.parametrize("copies", [False, True], ids=["weights", "copies"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_gradients_are_those_of_the_layers(family: str, copies: bool, load: Callable[..., Any]) -> None:
    """In bf16 both are a few roundings from what fp32 gives, about as many with kernels as without."""
    exact = run(load(family, compiled=False), torch.float32)
    plain = run(load(family, compiled=False))
    model = load(family)
    if copies:
        for module in list(model.base_model.modules()):
            if type(module) is nn.Linear:
                copy_weights(module)
    found = run(model)
    assert measure(found[0], exact[0]) <= 2 * measure(plain[0], exact[0]) + 2e-3
    for name, gradient in found[1].items():
        if name.endswith("key.bias"):  # zero but for roundings
            continue
        assert measure(gradient, exact[1][name]) <= 2 * measure(plain[1][name], exact[1][name]) + 1e-2, name
    if not copies:
        assert found[1].keys() == exact[1].keys()


def measure(found: Tensor, wanted: Tensor) -> float:
    """The distance of two tensors, as a share of the latter."""
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-9))


@pytest.mark.parametrize("family", FAMILIES)
def test_in_fp32_layers_are_their_own(family: str, load: Callable[..., Any]) -> None:
    found, wanted = (run(load(family, compiled=is_on), torch.float32) for is_on in (True, False))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_files_and_states_are_those_of_the_layers(load: Callable[..., Any], tmp_path: Path) -> None:
    for is_on in (True, False):
        load("bert", compiled=is_on).save_pretrained(tmp_path / str(is_on))
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "True" / name).read_bytes() == (tmp_path / "False" / name).read_bytes()


def test_copies_compute_alike(load: Callable[..., Any]) -> None:
    model = load("bert")
    logits, gradients = run(model)
    again = run(copy.deepcopy(model))
    assert torch.equal(logits, again[0])
    assert all(torch.equal(gradients[name], gradient) for name, gradient in again[1].items())


def test_checkpoints_give_the_same_gradients(load: Callable[..., Any]) -> None:
    model = load("bert")
    logits, gradients = run(model)
    checkpoint_activations(model)
    again = run(model)
    assert torch.equal(logits, again[0])
    for name, gradient in again[1].items():
        torch.testing.assert_close(gradient, gradients[name], rtol=2e-2, atol=2e-2 * float(gradient.abs().max() + 1e-6))


def test_with_dropout_layers_are_their_own(load: Callable[..., Any]) -> None:
    """Equal draws in equal places give equal numbers: nothing but torch's operations has run."""
    found = {}
    for is_on in (True, False):
        model = load("bert", compiled=is_on, dropout=0.5)
        for module in model.modules():
            if "GELU" in type(module).__name__:
                module.__class__ = type(ACT2FN["gelu"])
            if isinstance(module, nn.Dropout):
                module.__class__ = nn.Dropout
        torch.manual_seed(1)
        found[is_on] = run(model)
    assert torch.equal(found[True][0], found[False][0])


def test_somebody_who_looks_at_a_part_sees_it(load: Callable[..., Any]) -> None:
    model = load("bert")
    layer = model.base_model.encoder.layer[0]
    seen: list[str] = []
    for name in ("output.LayerNorm", "attention.self.query", "attention.output.dropout"):
        layer.get_submodule(name).register_forward_hook(lambda *_, name=name: seen.append(name))
    logits, _ = run(model)
    assert sorted(seen) == ["attention.output.dropout", "attention.self.query", "output.LayerNorm"]
    assert measure(logits, run(load("bert"))[0]) < 0.05


def test_a_padded_row_is_the_row_alone(load: Callable[..., Any]) -> None:
    model, batch = load("bert").eval(), make_batch()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        together = model(**batch).logits[1]
        alone = model(**{name: value[1:2, :5] for name, value in batch.items()}).logits[0]
    torch.testing.assert_close(together, alone, rtol=0.02, atol=0.02)


def make_attention(kind: Any = BertSelfAttention) -> Any:
    config = BertConfig(hidden_size=32, num_attention_heads=4)
    config._attn_implementation = "sdpa"
    return kind(config)


class ShiftedAttention(BertSelfAttention):
    """The parts of BERT's attention, and another output."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        output, weights = super().forward(hidden_states, *args, **kwargs)
        return output + 0.01 * hidden_states, weights


class PreNormOutput(BertSelfOutput):
    """The parts of a block's end, in another order."""

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(hidden_states)) + input_tensor


class ScaledGELU(nn.GELU):
    """The name of the function, and another one."""

    def forward(self, input: Tensor) -> Tensor:
        return 1.01 * super().forward(input)


def test_layers_that_compute_otherwise_stay_as_they_are() -> None:
    config = BertConfig(hidden_size=32, num_attention_heads=4)
    assert find_compiled_class(make_attention()) is not None
    assert find_compiled_class(make_attention(ShiftedAttention)) is None
    assert find_compiled_class(BertSelfOutput(config)) is not None
    assert find_compiled_class(PreNormOutput(config)) is None
    assert find_compiled_class(nn.GELU()) is not None
    assert find_compiled_class(ScaledGELU()) is None
    assert find_compiled_class(ACT2FN["gelu_new"]) is None


def test_other_attention_is_asked_for_and_taken(
    tiny_models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections, "attend_packed", lambda *_: pytest.fail("this is ours"))
    run(load_classifier(tiny_models("bert"), HEAD, 0, dropout=0.0, attention="sdpa").model)
    with pytest.raises(pytest.fail.Exception, match="this is ours"):
        run(load_classifier(tiny_models("bert"), HEAD, 0, dropout=0.0).model)


def test_a_decoder_of_the_same_make_is_causal() -> None:
    config = BertConfig(hidden_size=32, num_attention_heads=4, is_decoder=True)
    config._attn_implementation = ATTENTION
    layer: Any = BertLayer(config).eval()
    input = torch.randn(2, 6, 32)
    changed = input.clone()
    changed[:, 5] += 1
    use_compiled_layers(layer)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(input)[:, :5], layer(changed)[:, :5])
