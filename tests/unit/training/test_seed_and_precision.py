"""Places in a run have seeds of their own; device and number format are chosen by what the machine can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from afina.config.reason import Reason
from afina.errors import ConfigError
from afina.training.precision import choose_device, choose_precision, find_cpu_bf16_units, is_bf16_faster
from afina.training.seed import derive_seed, seed_torch


def test_seeds_are_fixed_for_ever() -> None:
    # A run that was begun with one version is resumed with another.
    assert derive_seed(42, "step", 120) == 2413324653074418332
    assert derive_seed(0) == 3456079177858693020
    assert derive_seed(42) != derive_seed(4, 2)


def test_places_have_seeds_of_their_own() -> None:
    places = [(seed, part, number) for seed in range(20) for part in ("step", "head") for number in range(20)]
    seeds = {derive_seed(*place) for place in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_torch_draws_the_same_at_the_same_place() -> None:
    def draw(*place: Any) -> list[float]:
        seed_torch(7, *place)
        return torch.rand(4).tolist()

    assert draw("step", 1) == draw("step", 1)
    assert draw("step", 1) != draw("step", 2)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`machine(cuda=..., mps=..., bf16=..., cpu=...)`: a machine that has these."""

    def build(cuda: bool = False, mps: bool = False, bf16: bool = False, cpu: dict[str, bool] | None = None) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation
        )
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu or {}, raising=False)

    return build


@pytest.mark.parametrize(
    ("there", "wanted", "value", "reason"),
    [
        ({}, "auto", "cpu", "no GPU is there"),
        ({"cuda": True}, "auto", "cuda", "a cuda device is there"),
        ({"mps": True}, "auto", "mps", "a mps device is there"),
        ({"cuda": True, "mps": True}, "auto", "cuda", "a cuda device is there"),
        ({"cuda": True}, "cpu", "cpu", "as given"),
        ({"mps": True}, "mps", "mps", "as given"),
    ],
)
def test_the_device(there: dict[str, bool], wanted: str, value: str, reason: str, machine: Any) -> None:
    machine(**there)
    assert choose_device(wanted) == Reason("training.device", value, reason)


def test_a_device_that_is_not_there_is_refused(machine: Any) -> None:
    machine(mps=True)
    with pytest.raises(ConfigError) as caught:
        choose_device("cuda")
    assert str(caught.value) == (
        "this machine has no cuda device\n  found: cpu, mps\n  do: --set training.device=auto"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("there", "device", "value", "reason"),
    [
        ({"cuda": True, "bf16": True}, "cuda", "bf16", "the GPU computes in bf16; weights stay fp32"),
        ({"cuda": True}, "cuda", "fp32", "the GPU has no bf16 units"),
        ({"mps": True}, "mps", "fp32", "bf16 brings nothing on this device"),
        (
            {"cpu": {"amx_bf16": True, "avx512_bf16": True}}, "cpu", "bf16",
            "the CPU has AMX and AVX512-BF16; weights that are trained stay fp32",
        ),
        ({"cpu": {"avx512_bf16": True}}, "cpu", "bf16", "the CPU has AVX512-BF16; weights that are trained stay fp32"),
        (
            {"cpu": {"amx_bf16": False, "avx2": True}}, "cpu", "fp32",
            "the CPU has neither AMX nor AVX512-BF16, so bf16 would be emulated",
        ),
    ],
)  # fmt: skip
def test_the_number_format(
    there: dict[str, Any], device: str, value: str, reason: str, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(**there)
    monkeypatch.setattr("afina.training.precision.is_bf16_faster", lambda: True)
    assert choose_precision("auto", device) == Reason("training.precision", value, reason)
    for wanted in ("fp32", "bf16"):
        assert choose_precision(wanted, device) == Reason("training.precision", wanted, "as given")


@pytest.fixture
def fresh() -> Any:
    """What was found out about this machine is forgotten, before and after."""
    is_bf16_faster.cache_clear()
    yield
    is_bf16_faster.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_bf16_units_that_multiply_slowly_are_not_used(
    machine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(cpu={"avx512_bf16": True})
    ratio, now = 1.0, 0.0

    def choose(measured: float) -> Reason:
        nonlocal ratio
        ratio = measured
        is_bf16_faster.cache_clear()
        monkeypatch.setenv("AFINA_CACHE", str(tmp_path / str(measured)))
        return choose_precision("auto", "cpu")

    def multiply(left: torch.Tensor, right: torch.Tensor) -> None:
        nonlocal now
        now += 1.0 if left.dtype == right.dtype == torch.float32 else 1.0 / ratio

    monkeypatch.setattr(torch.Tensor, "__matmul__", multiply)
    monkeypatch.setattr("afina.training.precision.time.perf_counter", lambda: now)
    slow = "the CPU has AVX512-BF16, but multiplies no faster in bf16 than in fp32"
    assert choose(0.6) == choose(1.1) == Reason("training.precision", "fp32", slow)
    assert choose(1.3).value == choose(4.0).value == "bf16"
    ratio = 0.5  # as another program may make it look: what was measured once for the machine stays
    is_bf16_faster.cache_clear()
    assert choose_precision("auto", "cpu").value == "bf16"
    (tmp_path / "4.0" / "bf16.json").write_text("damaged")
    is_bf16_faster.cache_clear()
    assert choose_precision("auto", "cpu").value == "fp32"
    # AMX isn't timed.
    machine(cpu={"avx512_bf16": True, "amx_bf16": True})
    assert choose(0.6).value == "bf16"


@pytest.mark.usefixtures("fresh")
def test_the_speed_of_bf16_is_found_once(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(cpu={"avx512_bf16": True})
    first = choose_precision("auto", "cpu")
    monkeypatch.setattr("afina.training.precision.time.perf_counter", lambda: 1 / 0)
    assert choose_precision("auto", "cpu") == first


def test_a_torch_that_cannot_tell_has_no_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert find_cpu_bf16_units() == ""
