"""What is counted on tensors without numbers is what a loaded model has and keeps, for every family and technique."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afina.techniques.registry import TECHNIQUES
from afina.testing.models import DECODERS, FAMILIES

CELLS = [(family, technique, False) for family in FAMILIES for technique in TECHNIQUES]
CELLS += [(family, technique, True) for family in DECODERS for technique in ("full", "lora", "qlora")]
ROWS, TOKENS = 3, 24


def load(folder: Path, technique: str, config: Any, is_language_model: bool, precision: str) -> Any:
    """The model as a run would train it."""
    import torch

    from afina.techniques.base import Setup
    from afina.techniques.registry import make_technique

    torch.manual_seed(0)
    head = None if is_language_model else {"num_labels": 3, "problem_type": "single_label_classification"}
    setup = Setup(folder, str(folder), head, 0, config, precision)
    return make_technique(technique).prepare(make_technique(technique).load(setup), setup)


def count_bytes(model: Any) -> int:
    """Bytes of parameters, buffers and the scales of 4-bit weights."""
    tensors = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    total = 0
    for tensor in tensors.values():
        total += tensor.nbytes
        state = getattr(tensor, "quant_state", None)
        if state is not None:
            total += state.absmax.nbytes + (state.state2.absmax.nbytes if state.nested else 0)
    return total


def count_kept_by(model: Any, is_language_model: bool, precision: str) -> int:
    """Bytes of what autograd saves in a real forward pass, but for weights and buffers."""
    import torch

    held = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage
        return tensor

    ids = torch.ones(ROWS, TOKENS, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[0, -1] = 0  # without padding there may be no mask to keep
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    body = base.base_model if is_language_model else model
    model.train()
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        output = body(input_ids=ids, attention_mask=mask)
    del output
    return sum(storage.nbytes() for storage in kept.values())


def test_the_table_is_whole() -> None:
    assert len(CELLS) == 4 * 16 + 3 * 7


@pytest.mark.parametrize(("family", "technique", "is_language_model"), CELLS)
def test_counts_are_those_of_the_loaded_model(
    family: str, technique: str, is_language_model: bool, tiny_models: Callable[[str], Path], draw: Callable[..., Any],
    describe: Callable[..., Any],
) -> None:  # fmt: skip
    from afina.advice.outline import outline
    from afina.techniques.base import count_parameters
    from afina.techniques.registry import make_technique

    config = describe(technique, is_language_model)
    found = outline(draw(family, is_language_model), make_technique(technique), config, "bf16")
    model = load(tiny_models(family), technique, config, is_language_model, "bf16")
    assert (found.trainable, found.parameters) == count_parameters(model)
    # A layer's last block of 4-bit weights is seldom full.
    slack = 8 * sum(1 for _ in model.modules()) if technique == "qlora" else 0
    assert count_bytes(model) == pytest.approx(found.weight_bytes, abs=slack)


@pytest.mark.parametrize(("distinct", "expected"), [(None, 0), (7, 7), (10_000, 0)])
def test_rows_of_the_embedding_that_no_text_names_have_no_moments(
    distinct: int | None, expected: int, draw: Callable[..., Any], describe: Callable[..., Any]
) -> None:
    """`expected`: rows that are trained alone; 0 where the whole table is."""
    from afina.advice.outline import outline
    from afina.techniques.registry import make_technique

    blueprint, technique = draw("bert", False), make_technique("full")
    config = describe("full", False)
    whole = outline(blueprint, technique, config, "fp32")
    found = outline(blueprint, technique, config, "fp32", distinct)
    config_of_plain = config.model_copy(
        update={"training": config.training.model_copy(update={"lazy_embeddings": False})}
    )
    assert outline(blueprint, technique, config_of_plain, "fp32", distinct) == whole
    left_out = (whole.vocabulary - expected) * whole.hidden_size if expected else 0
    assert (found.trainable, found.stepped) == (whole.trainable, whole.trainable - left_out)
    assert found.weight_bytes == whole.weight_bytes + 4 * expected * whole.hidden_size


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("family", "technique", "is_language_model"),
    [
        (family, technique, lm)
        for family, lm in (("bert", False), ("modernbert", False), ("llama", True), ("gemma3", True), ("gpt2", True))
        for technique in ("full", "lora", "qlora")
    ],
)
def test_kept_is_what_a_real_pass_keeps(
    family: str, technique: str, is_language_model: bool, precision: str, tiny_models: Callable[[str], Path],
    draw: Callable[..., Any], describe: Callable[..., Any],
) -> None:  # fmt: skip
    from afina.advice.outline import count_kept
    from afina.techniques.registry import make_technique

    config = describe(technique, is_language_model, dropout=0.0)
    kept = count_kept(
        draw(family, is_language_model), make_technique(technique), config, precision, ROWS, TOKENS, compiled=True
    )
    model = load(tiny_models(family), technique, config, is_language_model, precision)
    assert kept.total == pytest.approx(count_kept_by(model, is_language_model, precision), rel=0.1)
    assert not kept.is_estimated


def test_checkpointing_keeps_less(draw: Callable[..., Any], describe: Callable[..., Any]) -> None:
    from afina.advice.outline import count_kept
    from afina.techniques.registry import make_technique

    blueprint = draw("llama").with_layers(12)
    plain, again = (
        count_kept(
            blueprint, make_technique("full"), describe("full", gradient_checkpointing=wanted), "fp32", ROWS, TOKENS
        )
        for wanted in (False, True)
    )
    assert plain.layers == 12
    assert again.total < plain.total / 4
    assert again.outside == plain.outside + plain.block


def test_a_model_that_needs_numbers_is_estimated(
    draw: Callable[..., Any], describe: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from afina.advice import outline
    from afina.techniques.registry import make_technique

    def fail(*given: Any) -> int:
        raise RuntimeError("data-dependent")

    monkeypatch.setattr(outline, "count_kept_at", fail)
    kept = outline.count_kept(draw("bert"), make_technique("full"), describe("full"), "fp32", 2, 10)
    assert kept.is_estimated
    # Korthikanti et al. 2022: 34 s b h + 5 a s^2 b bytes a block in half precision; fp32 takes twice that.
    assert kept.block == 2 * (34 * 2 * 10 * 32 + 5 * 4 * 100 * 2)


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_copies_of_weights_are_held_and_none_are_kept(
    family: str, tiny_models: Callable[[str], Path], draw: Callable[..., Any], describe: Callable[..., Any]
) -> None:
    from afina.advice.outline import count_kept, outline
    from afina.techniques.registry import make_technique
    from afina.training.weight_copies import find_copies, train_weight_copies

    config, blueprint, technique = describe("full", dropout=0.0), draw(family), make_technique("full")
    model = load(tiny_models(family), "full", config, False, "bf16")
    plain = count_kept_by(model, False, "bf16")
    with train_weight_copies(model):
        held = sum(copy.numel() for copy in find_copies(model).values())
        kept = count_kept_by(model, False, "bf16") - 2 * held  # those that count_kept_by doesn't know as weights
    assert held > 0
    found = outline(blueprint, technique, config, "bf16", copies=True)
    assert (found.copied, found.weight_bytes) == (held, outline(blueprint, technique, config, "bf16").weight_bytes)
    predicted = count_kept(blueprint, technique, config, "bf16", ROWS, TOKENS, copies=True, compiled=True).total
    assert predicted == pytest.approx(kept, rel=0.1)
    assert kept < plain
