"""Computations side by side: order, errors, threads of torch, and where there is one lane only."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from afina.kernels.lanes import LANES, PerThread, allow_lanes, count_lanes, cut_evenly, open_lanes


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    allow_lanes(True)


def test_results_come_in_order_and_from_several_threads() -> None:
    both = threading.Barrier(LANES, timeout=20)  # passes only if two are at it at the same time

    def compute(number: int) -> tuple[int, str, int]:
        both.wait()
        time.sleep(0.02 if number % 2 == 0 else 0)  # the first of each two ends last
        return number, threading.current_thread().name, torch.get_num_threads()

    with open_lanes(LANES) as lanes:
        found = list(lanes.map(compute, range(6)))
    numbers, names, threads = zip(*found, strict=True)
    assert numbers == tuple(range(6))
    assert len(set(names)) == LANES
    assert set(threads) == {1}


def test_the_caller_keeps_its_threads() -> None:
    with open_lanes(LANES) as lanes:
        list(lanes.map(lambda number: number, range(4)))
    assert torch.get_num_threads() == 2
    started: list[int] = []
    later = threading.Thread(target=lambda: started.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert started == [2]


def test_one_lane_is_the_callers_thread() -> None:
    with open_lanes(1) as lanes:
        assert list(lanes.map(lambda _: threading.get_ident(), range(3))) == [threading.get_ident()] * 3


def test_nothing_is_computed_after_an_error() -> None:
    ended = []

    def compute(number: int) -> int:
        if number == 0:
            raise ValueError("the first")
        time.sleep(0.1)
        ended.append(number)
        return number

    with open_lanes(LANES) as lanes:
        with pytest.raises(ValueError, match="the first"):
            list(lanes.map(compute, range(50)))
        after = list(ended)
        time.sleep(0.25)
    assert ended == after
    assert len(ended) < 5


@pytest.mark.parametrize("count", [1, LANES])
def test_what_isnt_asked_for_isnt_computed(count: int) -> None:
    begun: list[int] = []
    with open_lanes(count) as lanes:
        results = lanes.map(lambda number: begun.append(number), range(100))
        next(results)
        results.close()  # type: ignore[attr-defined]
    assert len(begun) <= count + 1


def test_each_thread_sees_what_it_has_put_there() -> None:
    captured = PerThread()
    both = threading.Barrier(LANES, timeout=20)

    def compute(number: int) -> int:
        captured["own"] = number
        both.wait()
        return captured["own"]  # type: ignore[no-any-return]

    with open_lanes(LANES) as lanes:
        assert list(lanes.map(compute, range(4))) == [0, 1, 2, 3]


class Rotary(nn.Module):
    def __init__(self, rope_type: Any) -> None:
        super().__init__()
        self.rope_type = rope_type


@pytest.mark.parametrize(
    ("model", "device", "parts", "count"),
    [
        (nn.Linear(2, 2), "cpu", 2, LANES),
        (nn.Linear(2, 2), "cpu", 1, 1),
        (nn.Linear(2, 2), "cuda", 9, 1),
        (nn.Sequential(nn.BatchNorm1d(2)), "cpu", 9, 1),
        (nn.Sequential(Rotary("default")), "cpu", 9, LANES),
        (nn.Sequential(Rotary("dynamic")), "cpu", 9, 1),
        (nn.Sequential(Rotary({"full_attention": "longrope", "sliding_attention": "default"})), "cpu", 9, 1),
    ],
)
def test_where_there_are_lanes(model: nn.Module, device: str, parts: int, count: int) -> None:
    assert count_lanes(model, device, parts) == count


def test_one_thread_or_a_switch_means_one_lane() -> None:
    allow_lanes(False)
    assert count_lanes(nn.Linear(2, 2), "cpu", 9) == 1
    allow_lanes(True)
    torch.set_num_threads(1)
    assert count_lanes(nn.Linear(2, 2), "cpu", 9) == 1


def test_transformers_names_the_type_where_it_is_looked_for() -> None:
    """The frequencies of these follow the longest row of a batch, and are kept in the module."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    config = LlamaConfig(rope_parameters=parameters, hidden_size=32, num_attention_heads=4)
    assert count_lanes(LlamaRotaryEmbedding(config), "cpu", 9) == 1
    assert count_lanes(LlamaRotaryEmbedding(LlamaConfig(hidden_size=32, num_attention_heads=4)), "cpu", 9) == LANES


@pytest.mark.parametrize("lengths", [[5, 5, 5, 5], [1, 2, 3, 100], [512] * 7, [3, 1], list(range(1, 17))])
def test_halves_hold_every_row_and_cost_about_as_much(lengths: list[int]) -> None:
    parts = cut_evenly(np.asarray(lengths), 2)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lengths)))
    costs = [len(part) * max(lengths[place] for place in part) for part in parts]
    best = min(
        max(max(sorted(lengths)[:cut]) * cut, max(lengths) * (len(lengths) - cut)) for cut in range(1, len(lengths))
    )
    assert len(parts) == 2
    assert max(costs) == best


def test_one_row_has_no_halves() -> None:
    assert [part.tolist() for part in cut_evenly(np.asarray([7]), 2)] == [[0]]
    assert [part.tolist() for part in cut_evenly(np.asarray([7, 3, 9]), 1)] == [[1, 0, 2]]


def test_a_model_may_be_anything_with_modules() -> None:
    assert count_lanes(SimpleNamespace(modules=lambda: [nn.Linear(1, 1)]), "cpu", 2) == LANES  # type: ignore[arg-type]
