"""Cached features are those of runs that would compute the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from afina.kernels import native
from afina.kernels.lanes import allow_lanes
from afina.pipeline.features import make_cache
from afina.techniques.registry import make_technique

needs_kernels = pytest.mark.skipif(native.load_layer_kernels() is None, reason="the kernels weren't compiled")


@pytest.fixture(autouse=True)
def _allow() -> Iterator[None]:
    yield
    native.allow_compiled(True)
    allow_lanes(True)


def locate(make_setup: Callable[..., Any], threads: int = 1, **settings: Any) -> str:
    """The folder of the features of a run with these settings."""
    setup = make_setup("bert", "feature-extraction", **settings)
    technique = make_technique("feature-extraction")
    torch.manual_seed(0)  # of the new head and pooler
    loaded = technique.load(setup)
    torch.set_num_threads(threads)
    prepared: Any = SimpleNamespace(config=setup.config, setup=setup, technique=technique, device="cpu")
    cache = make_cache(prepared, loaded)
    assert cache is not None
    return str(cache.folder)


def test_equal_runs_share_their_features(make_setup: Callable[..., Any]) -> None:
    assert locate(make_setup) == locate(make_setup)


@pytest.mark.parametrize(
    "other",
    [
        {"threads": 2}, {"training": {"side_by_side": False}}, {"evaluation": {"eval_tokens_per_batch": 64}},
        {"model": {"attn_implementation": "eager"}},
        pytest.param({"training": {"compiled_kernels": False}}, marks=needs_kernels),
    ],
    ids=str,
)  # fmt: skip
def test_runs_that_compute_other_bits_do_not(other: dict[str, Any], make_setup: Callable[..., Any]) -> None:
    assert locate(make_setup) != locate(make_setup, **other)


@pytest.mark.parametrize(
    "place",
    ["afina.advice.machine.find_cpu_name", "torch.cpu.get_capabilities", "afina.data.batches.LENGTHS_IN_OCTAVE"],
)
def test_other_machines_and_other_lengths_of_batches_do_not(
    place: str, make_setup: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = locate(make_setup)
    monkeypatch.setattr(place, 8 if place.endswith("OCTAVE") else lambda: {"avx9": True})
    assert locate(make_setup) != here


def test_no_cache_where_it_is_switched_off(make_setup: Callable[..., Any]) -> None:
    setup = make_setup("bert", "feature-extraction", features={"cache": False})
    prepared: Any = SimpleNamespace(config=setup.config)
    assert make_cache(prepared, SimpleNamespace()) is None  # type: ignore[arg-type]
