"""The loss of the head is torch's cross-entropy, forward and backward, whatever the chunks; and it never holds more.

In fp64 the two differ by rounding alone, so that the mathematics is tested; in bf16 ours must be as near to the exact
result as the plain path is.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, is_tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from afina.kernels import loss as loss_module
from afina.kernels.loss import head_loss, make_plan, score_targets

SHAPES = [(1, 4, 5), (7, 8, 13), (33, 16, 50)]
OPTIONS: list[dict[str, float]] = [{}, {"softcap": 1.5}, {"scale": 0.7}, {"softcap": 1.5, "scale": 2.5}]
TOLERANCES = {torch.float32: 1e-6, torch.float64: 1e-13}
FACTOR = 0.37  # what the loss is multiplied by before the backward pass, such as one over a count


class Watch(TorchDispatchMode):
    """Which operations ran within, and what memory they took."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[torch.Size] = []
        self.largest_bytes = 0
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        given = {each.untyped_storage().data_ptr() for each in [*args, *(kwargs or {}).values()] if is_tensor(each)}
        self.names.append(func.__name__.partition(".")[0])
        for each in found if isinstance(found, tuple | list) else [found]:
            if is_tensor(each) and each.untyped_storage().data_ptr() not in given:  # neither a view nor in place
                self.shapes.append(each.shape)
                self.largest_bytes = max(self.largest_bytes, each.untyped_storage().nbytes())
        return found

    @property
    def products(self) -> int:
        """How many matrix products there were."""
        return sum(name == "mm" for name in self.names)


def make_inputs(shape: tuple[int, int, int], dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    """Hidden states, weight and bias that want gradients, and targets; the same numbers in every dtype, if rounded."""
    positions, width, tokens = shape
    generator = torch.Generator().manual_seed(0)
    sizes = [(positions, width), (tokens, width), (tokens,)]
    made = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    made[1] *= width**-0.5  # logits of about one, so that the cap bends them but doesn't flatten them
    targets = torch.randint(tokens, (positions,), generator=generator)
    return [each.bfloat16().to(dtype).requires_grad_() for each in made], targets


def compute_plainly(
    inputs: list[Tensor], targets: Tensor, softcap: float | None = None, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Loss and logits as they are usually written, the loss of bf16 logits in fp32."""
    hidden, weight, *bias = inputs
    logits = scale * functional.linear(hidden, weight, *bias)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return functional.cross_entropy(wide, targets, reduction="sum"), logits


def collect_gradients(loss: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Gradients of the inputs that want one, after a factor."""
    (loss * FACTOR).backward()  # type: ignore[no-untyped-call]
    return [each.grad for each in inputs if each.grad is not None]


def assert_near(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Same shape and dtype, and no difference above the tolerance, relative to the largest number."""
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


@pytest.fixture(params=["a row a block", "a chunk a block"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way in which the fp32 logits of a chunk may be divided."""
    monkeypatch.setattr(loss_module, "BLOCK_BYTES", 1 if "row" in request.param else 2**20)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("chunk_rows", [1, 3, 5, None])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_loss_and_gradients_are_those_of_torch(
    shape: tuple[int, int, int], chunk_rows: int | None, options: dict[str, float], dtype: torch.dtype
) -> None:
    (ours, targets), (theirs, _) = make_inputs(shape, dtype), make_inputs(shape, dtype)
    found = head_loss(*ours, targets, chunk_rows=chunk_rows, **options)
    wanted, _ = compute_plainly(theirs, targets, **options)
    assert_near(found, wanted, TOLERANCES[dtype])
    pairs = zip(collect_gradients(found, ours), collect_gradients(wanted, theirs), strict=True)
    for one, other in pairs:
        assert_near(one, other, TOLERANCES[dtype])


@pytest.mark.parametrize("wants", list(product([False, True], repeat=3)), ids=str)
def test_only_gradients_that_are_wanted_are_computed(wants: tuple[bool, ...]) -> None:
    ours, targets = make_inputs(SHAPES[1])
    theirs, _ = make_inputs(SHAPES[1])
    for inputs in (ours, theirs):
        for each, wanted in zip(inputs, wants, strict=True):
            each.requires_grad_(wanted)
    with Watch() as seen:
        found = head_loss(*ours, targets, chunk_rows=7)
    assert seen.products == 1 + wants[0] + wants[1]
    assert found.requires_grad is any(wants)
    if any(wants):
        found_gradients = collect_gradients(found, ours)
        assert [each.grad is not None for each in ours] == list(wants)
        pairs = zip(found_gradients, collect_gradients(compute_plainly(theirs, targets)[0], theirs), strict=True)
        for one, other in pairs:
            assert_near(one, other, 1e-13)


def test_a_head_without_bias_and_rows_picked_from_a_batch() -> None:
    (ours, targets), (theirs, _) = make_inputs((12, 8, 13)), make_inputs((12, 8, 13))
    losses = []
    for inputs, compute in ((ours, head_loss), (theirs, None)):
        batch = inputs[0].reshape(3, 4, 8).transpose(0, 1)[1:]
        picked = [batch.flatten(0, 1), inputs[1]]
        loss = compute(*picked, None, targets[:9]) if compute else compute_plainly(picked, targets[:9])[0]
        losses.append((loss, collect_gradients(loss, inputs[:2])))
    (found, found_gradients), (wanted, wanted_gradients) = losses
    assert_near(found, wanted, 1e-13)
    for one, other in zip(found_gradients, wanted_gradients, strict=True):
        assert_near(one, other, 1e-13)


@pytest.mark.parametrize("chunk_rows", [1, 100, None])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_bf16_is_as_near_to_the_exact_result_as_the_plain_path(
    options: dict[str, float], chunk_rows: int | None
) -> None:
    shape = (300, 24, 64)
    results = {}
    for name, dtype in (("exact", torch.float64), ("plain", torch.bfloat16), ("ours", torch.bfloat16)):
        inputs, targets = make_inputs(shape, dtype)
        loss = (
            head_loss(*inputs, targets, chunk_rows=chunk_rows, **options)
            if name == "ours"
            else compute_plainly(inputs, targets, **options)[0]
        )
        results[name] = [loss, *collect_gradients(loss, inputs)]
    assert [each.dtype for each in results["ours"]] == [torch.float32, *[torch.bfloat16] * 3]
    assert abs(results["ours"][0] - results["exact"][0]) <= 2e-4 * results["exact"][0]
    for exact, plain, ours in list(zip(*results.values(), strict=True))[1:]:
        assert (ours - exact).norm() <= 1.2 * (plain - exact).norm()


def test_losses_of_hundreds_stay_exact() -> None:
    inputs, targets = make_inputs(SHAPES[2], torch.float32)
    large = [inputs[0].detach() * 100, *inputs[1:]]
    assert_near(head_loss(*large, targets), compute_plainly(large, targets)[0], 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("is_default", [True, False])
def test_nothing_is_larger_than_a_chunk(is_default: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    shape, rows = (64, 2, 1000), 4
    monkeypatch.setattr(loss_module, "CHUNK_BYTES", rows * shape[2] * dtype.itemsize + 3)
    monkeypatch.setattr(loss_module, "BLOCK_BYTES", rows // 2 * shape[2] * 4)
    inputs, targets = make_inputs(shape, dtype)
    with Watch() as seen:
        head_loss(*inputs, targets, chunk_rows=None if is_default else rows, softcap=2.0, scale=2.0).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            score_targets(*inputs, targets, chunk_rows=None if is_default else rows)
    assert seen.shapes.count(torch.Size([rows, shape[2]])) == 2  # one for each call, not for each chunk
    assert seen.largest_bytes <= rows * shape[2] * dtype.itemsize


def test_a_frozen_weight_costs_no_memory() -> None:
    inputs, targets = make_inputs((8, 16, 1000), torch.float32)
    inputs[1].requires_grad_(False)
    with Watch() as seen:
        head_loss(*inputs, targets, chunk_rows=2).backward()  # type: ignore[no-untyped-call]
    assert seen.largest_bytes == 2 * 1000 * 4


def test_chunks_are_of_nearly_one_size_and_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "CHUNK_BYTES", 10 * 100 * 4)
    weight = torch.zeros(100, 2)
    for positions, wanted in ((0, 1), (1, 1), (10, 10), (11, 6), (20, 10), (21, 7), (39, 10)):
        assert make_plan(torch.zeros(positions, 2), weight, None, None, 1.0).chunk_rows == wanted
    monkeypatch.setattr(loss_module, "CHUNK_BYTES", 1)
    assert make_plan(torch.zeros(5, 2), weight, None, None, 1.0).chunk_rows == 1
    assert make_plan(torch.zeros(5, 2), weight, 3, None, 1.0).chunk_rows == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_no_positions_give_zero_and_zero_gradients(dtype: torch.dtype) -> None:
    inputs, targets = make_inputs((0, 4, 5), dtype)
    loss = head_loss(*inputs, targets)
    assert loss.item() == 0.0
    assert loss.dtype == torch.float32
    assert loss.grad_fn is not None
    gradients = collect_gradients(loss, inputs)
    assert [(each.shape, each.dtype) for each in gradients] == [(each.shape, dtype) for each in inputs]
    assert not any(each.any() for each in gradients)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_none_are_computed(mode: Any) -> None:
    inputs, targets = make_inputs(SHAPES[2])
    with mode(), Watch() as seen:
        loss = head_loss(*inputs, targets, chunk_rows=11, softcap=1.5)
    assert not loss.requires_grad
    assert seen.products == 3
    assert inputs[1].shape not in seen.shapes  # no gradient of the weight
    assert "exp_" not in seen.names  # nor of the logits
    assert_near(loss, compute_plainly(inputs, targets, softcap=1.5)[0], 1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_under_autocast_products_alone_are_in_its_dtype(dtype: torch.dtype) -> None:
    inputs, targets = make_inputs(SHAPES[2], dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head_loss(*inputs, targets, chunk_rows=5, scale=0.7)
        gradients = collect_gradients(found, inputs)
    rounded, _ = make_inputs(SHAPES[2], torch.bfloat16)
    wanted = head_loss(*rounded, targets, chunk_rows=5, scale=0.7)
    assert torch.equal(found, wanted)
    for one, other in zip(gradients, collect_gradients(wanted, rounded), strict=True):
        assert one.dtype == dtype
        assert torch.equal(one.bfloat16(), other)


def test_a_weight_of_another_dtype_is_cast_and_gets_its_gradient_unrounded() -> None:
    inputs, targets = make_inputs(SHAPES[2], torch.bfloat16)
    wide = [inputs[0], *(each.detach().float().requires_grad_() for each in inputs[1:])]
    gradients = collect_gradients(head_loss(*wide, targets, chunk_rows=5), wide)
    narrow = collect_gradients(head_loss(*inputs, targets, chunk_rows=5), inputs)
    assert [each.dtype for each in gradients] == [torch.bfloat16, torch.float32, torch.float32]
    assert torch.equal(gradients[1].bfloat16(), narrow[1])
    assert not torch.equal(gradients[1], narrow[1].float())


def test_a_derivative_of_the_gradients_is_refused() -> None:
    inputs, targets = make_inputs(SHAPES[1])
    squared = head_loss(*inputs, targets) ** 2
    (gradient,) = torch.autograd.grad(squared, inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()  # type: ignore[no-untyped-call]


def test_a_second_backward_pass_is_refused() -> None:
    inputs, targets = make_inputs(SHAPES[1])
    loss = head_loss(*inputs, targets)
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()  # type: ignore[no-untyped-call]


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("chunk_rows", [1, 4, None])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_correct_positions_are_counted_beside_the_loss(options: dict[str, float], chunk_rows: int | None) -> None:
    inputs, targets = make_inputs(SHAPES[2])
    wanted, logits = compute_plainly(inputs, targets, **options)
    targets[::3] = logits.argmax(1)[::3]
    wanted, _ = compute_plainly(inputs, targets, **options)
    loss, correct = score_targets(*inputs, targets, chunk_rows=chunk_rows, **options)
    assert_near(loss, wanted, 1e-13)
    assert correct.item() == (logits.argmax(1) == targets).sum().item()
    assert 11 <= correct.item() < 33
    assert not loss.requires_grad


def test_of_equal_logits_the_first_is_taken_as_generation_would() -> None:
    hidden, weight = torch.ones(3, 2), torch.ones(4, 2)
    _, correct = score_targets(hidden, weight, None, torch.tensor([0, 1, 3]))
    assert correct.item() == 1
